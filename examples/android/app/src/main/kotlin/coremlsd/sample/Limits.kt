// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

/** What a bundle may ask for, both ends included: the table of `coreml_sd/files/limits.py`, as far as it is read here. */
internal object Limits {
    const val PIXELS = 8192
    const val LATENT_PIXELS = 4096
    const val LATENT_CHANNELS = 128
    const val VAE_SCALE_FACTOR = 64
    const val BATCH = 2
    const val FACTOR = 1e6
    const val MAX_TOKENS = 1024
    const val TOKEN_ID = 1_000_000
    const val ADDED_TOKENS = 10_000
    const val WORD_CHARACTERS = 1000
    const val STEPS = 1000
    const val TRAIN_TIMESTEPS = 10_000
    const val GUIDANCE = 100.0
    const val FEW_STEPS = 8
    const val RANK = 8
    const val ELEMENTS = 268_435_456
    const val WIDTH = 131_072
    const val FILES = 10_000
    const val FILE_BYTES = 1_099_511_627_776
    const val TEXT_BYTES = 67_108_864
    const val NESTING = 64
}
