// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import kotlin.math.sqrt

/** Denoising diffusion implicit models, without fresh noise (arXiv 2010.02502), as in diffusers. */
class Ddim(private val config: SchedulerConfig, steps: Int) : Scheduler {
    override val timesteps: IntArray
    private val alphas = config.alphas()
    private val stride = config.trainSteps / steps
    private val lastAlpha = if (config.flag("set_alpha_to_one", true)) 1.0 else alphas[0]

    init {
        config.refuse("rescale_betas_zero_snr", "thresholding")
        timesteps = when (val spacing = config.word("timestep_spacing", "leading")) {
            "leading" -> IntArray(steps) { (steps - 1 - it) * stride + config.stepsOffset }
            "linspace" -> linspace(config.trainSteps - 1, steps)
            "trailing" -> trailing(config.trainSteps, steps)
            else -> throw BundleException("timestep_spacing $spacing: this sample lacks it")
        }
    }

    override fun step(index: Int, prediction: FloatArray, latent: FloatArray): FloatArray {
        val before = timesteps[index] - stride
        val alpha = alphas[timesteps[index]]
        val next = if (before >= 0) alphas[before] else lastAlpha
        val picture = config.picture(prediction, latent, alpha)
        // The noise that is left is the latent less its part of the picture.
        val noise = combine(1 / sqrt(1 - alpha), latent, -sqrt(alpha) / sqrt(1 - alpha), picture)
        return combine(sqrt(next), picture, sqrt(1 - next), noise)
    }
}
