// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

/**
 * The names that coreml-sd gives to files, signatures and tensors.
 *
 * They are the same on both platforms; a test of coreml-sd holds this list against the converter.
 */
object Names {
    const val TARGET = "tflite"

    const val TEXT_ENCODER = "text_encoder"
    const val UNET = "unet"
    const val VAE_DECODER = "vae_decoder"

    const val INPUT_IDS = "input_ids" // (1, tokens) int32
    const val LAST_HIDDEN_STATE = "last_hidden_state" // (1, tokens, width)

    const val SAMPLE = "sample" // (batch, channels, height, width)
    const val TIMESTEP = "timestep" // (batch)
    const val ENCODER_HIDDEN_STATES = "encoder_hidden_states" // (batch, width, 1, tokens)
    const val NOISE_PRED = "noise_pred" // as sample

    const val Z = "z" // (1, channels, height, width)
    const val IMAGE = "image" // (1, 3, picture height, picture width), -1 to 1
}
