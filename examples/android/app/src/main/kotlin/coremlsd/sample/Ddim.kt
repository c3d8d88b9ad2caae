// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import kotlin.math.max
import kotlin.math.min

/** Denoising diffusion implicit models, without fresh noise (arXiv 2010.02502), as in diffusers. */
class Ddim(private val config: SchedulerConfig, steps: Int) : Scheduler {
    private val alphas = NoiseSchedule(config).alphas
    private val indices = indices(Spacing.timesteps(config, "leading", steps), alphas.size)
    private val stride = alphas.size / steps
    private val lastAlpha = if (config.flag("set_alpha_to_one") != false) 1f else alphas[0]

    // diffusers' default of clipping is left to models whose own scheduler is that class.
    private val clips = config.flag("clip_sample") ?: (config.word("_class_name") == "DDIMScheduler")
    private val bound = (config.number("clip_sample_range") ?: 1.0).toFloat()

    override val timesteps = FloatArray(steps) { indices[it].toFloat() }

    override fun step(index: Int, prediction: FloatArray, latent: FloatArray): FloatArray {
        val before = indices[index] - stride
        val now = Parts.ofAlpha(alphas[indices[index]])
        val next = Parts.ofAlpha(if (before >= 0) alphas[before] else lastAlpha)
        val clean = now.clean(config.prediction, prediction, latent)
        val noise = now.noise(config.prediction, prediction, latent)
        val kept = if (clips) FloatArray(clean.size) { min(max(clean[it], -bound), bound) } else clean
        return combine(next.picture, kept, next.noise, noise)
    }
}
