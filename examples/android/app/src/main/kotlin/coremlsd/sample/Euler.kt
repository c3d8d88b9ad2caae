// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import kotlin.math.ln
import kotlin.math.max
import kotlin.math.sqrt

/** Euler's method on the noise level (algorithm 2 of arXiv 2206.00364, without churn), as in diffusers. */
class Euler(private val config: SchedulerConfig, steps: Int) : Scheduler {
    override val timesteps: FloatArray
    override val initialNoiseScale: Float
    private val sigmas: DoubleArray // noise over picture at each step, and after the last

    init {
        val table = SigmaTable(NoiseSchedule(config, floor = LEAST_ALPHA))
        var told = Spacing.timesteps(config, "linspace", steps, rounds = false).map { it.toFloat() }
        var run = DoubleArray(steps) { table.sigma(told[it].toDouble()) }
        // One sigma more than timesteps: where the last step ends.
        if (config.word("interpolation_type") == "log_linear") run = table.logLinear(steps + 1)
        val spread = spread(run.first(), run.last(), steps)
        if (spread != null) {
            run = spread
            told = run.map { table.timestep(it).toFloat() }
        }
        if (config.word("timestep_type") == "continuous" && config.prediction == "v_prediction") {
            told = run.map { 0.25f * ln(it.toFloat()) }
        }
        val last = if (config.word("final_sigmas_type") == "sigma_min") table.least else 0.0
        sigmas = SigmaTable.ended(run, last, steps)
        timesteps = told.toFloatArray()
        val most = sigmas.fold(0.0) { one, other -> max(one, other) }
        val scaled = config.word("timestep_spacing") == "leading"
        initialNoiseScale = (if (scaled) sqrt(most * most + 1) else most).toFloat()
    }

    private fun spread(first: Double, last: Double, steps: Int): DoubleArray? {
        val most = config.number("sigma_max") ?: first
        val least = config.number("sigma_min") ?: last
        if (config.flag("use_karras_sigmas") == true) return SigmaTable.karras(most, least, steps)
        if (config.flag("use_exponential_sigmas") == true) return SigmaTable.exponential(most, least, steps)
        return null
    }

    override fun inputScale(index: Int): Float = Parts.ofSigma(sigmas[index]).picture.toFloat()

    override fun step(index: Int, prediction: FloatArray, latent: FloatArray): FloatArray {
        val sigma = sigmas[index]
        val parts = Parts.ofSigma(sigma)
        val clean = when (config.prediction) {
            "v_prediction" -> combine(parts.picture * parts.picture, latent, -parts.noise, prediction)
            "sample" -> prediction
            else -> combine(1.0, latent, -sigma, prediction)
        }
        val moved = (sigmas[index + 1] - sigma) / sigma
        return combine(1 + moved, latent, -moved, clean)
    }

    internal companion object {
        const val LEAST_ALPHA = 1f / (1 shl 24) // diffusers puts it in place of 0
    }
}
