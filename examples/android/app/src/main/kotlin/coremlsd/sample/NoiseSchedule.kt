// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import kotlin.math.PI
import kotlin.math.cos
import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.max
import kotlin.math.min
import kotlin.math.pow
import kotlin.math.sqrt

/**
 * How much of the picture is left at each timestep of the training; fp32 and in the order of diffusers,
 * because at the first timesteps `1 - alpha` keeps few digits of it.
 */
internal class NoiseSchedule(private val config: SchedulerConfig, rescales: Boolean = true, floor: Float? = null) {
    /** Running product of `1 - beta`. */
    val alphas: FloatArray

    init {
        val rescale = rescales && config.flag("rescale_betas_zero_snr") == true
        alphas = products(if (rescale) endingInNoise(betas()) else betas())
        if (rescale && floor != null) alphas[alphas.size - 1] = floor
    }

    private fun betas(): FloatArray {
        val count = config.trainSteps
        config.numbers("trained_betas")?.let { trained -> return FloatArray(count) { trained[it].toFloat() } }
        val first = config.number("beta_start") ?: 0.0001
        val last = config.number("beta_end") ?: 0.02
        return when (config.word("beta_schedule")) {
            "squaredcos_cap_v2" -> cosine(count)
            "scaled_linear" -> evenly(sqrt(first), sqrt(last), count).let { roots -> FloatArray(count) { roots[it] * roots[it] } }
            else -> evenly(first, last, count)
        }
    }

    private fun cosine(count: Int): FloatArray {
        fun left(time: Double) = cos((time + 0.008) / 1.008 * PI / 2).let { it * it }
        return FloatArray(count) { min(1 - left((it + 1.0) / count) / left(it.toDouble() / count), 0.999).toFloat() }
    }

    /** Rescaled so that nothing of the picture is left at the last timestep (arXiv 2305.08891). */
    private fun endingInNoise(betas: FloatArray): FloatArray {
        val roots = products(betas).let { alphas -> FloatArray(alphas.size) { sqrt(alphas[it]) } }
        val first = roots.first()
        val last = roots.last()
        val scale = first / (first - last)
        val squares = FloatArray(roots.size) { ((roots[it] - last) * scale).let { root -> root * root } }
        return FloatArray(roots.size) { 1 - if (it == 0) squares[0] else squares[it] / squares[it - 1] }
    }

    private fun products(betas: FloatArray): FloatArray {
        var product = 1.0
        return FloatArray(betas.size) {
            product *= (1 - betas[it]).toDouble()
            product.toFloat()
        }
    }

    companion object {
        /** `torch.linspace` in fp32: from both ends to the middle. */
        fun evenly(first: Double, last: Double, count: Int): FloatArray {
            val step = ((last.toFloat() - first.toFloat()) / (count - 1)).toDouble()
            return FloatArray(count) {
                if (it < count / 2) (first.toFloat() + step * it).toFloat()
                else (last.toFloat() - step * (count - 1 - it)).toFloat()
            }
        }
    }
}

/** Parts of picture and noise in a latent, their squares adding up to 1. */
internal class Parts(val picture: Double, val noise: Double) {
    /** The clean latent that a prediction stands for. */
    fun clean(prediction: String, predicted: FloatArray, latent: FloatArray): FloatArray = when (prediction) {
        "v_prediction" -> combine(picture, latent, -noise, predicted)
        "sample" -> predicted
        else -> combine(1 / picture, latent, -noise / picture, predicted)
    }

    /** The noise in the latent that a prediction stands for. */
    fun noise(prediction: String, predicted: FloatArray, latent: FloatArray): FloatArray = when (prediction) {
        "v_prediction" -> combine(noise, latent, picture, predicted)
        "sample" -> combine(1 / noise, latent, -picture / noise, predicted)
        else -> predicted
    }

    companion object {
        fun ofAlpha(alpha: Float) = Parts(sqrt(alpha.toDouble()), sqrt(1 - alpha.toDouble()))

        fun ofSigma(sigma: Double): Parts = (1 / sqrt(sigma * sigma + 1)).let { Parts(it, sigma * it) }
    }
}

/** Noise over picture at each timestep of the training, and the sigmas of a run that are read from it. */
internal class SigmaTable(schedule: NoiseSchedule) {
    private val sigmas = FloatArray(schedule.alphas.size) { sqrt((1 - schedule.alphas[it]) / schedule.alphas[it]) }
    private val logarithms = FloatArray(sigmas.size) { ln(sigmas[it]) }

    val least: Double get() = sigmas.first().toDouble()
    val most: Double get() = sigmas.last().toDouble()

    /** Interpolated between two timesteps. */
    fun sigma(timestep: Double): Double {
        if (timestep <= 0) return least
        if (timestep >= sigmas.size - 1) return most
        val low = timestep.toInt()
        val below = sigmas[low].toDouble()
        return (sigmas[low + 1] - below) * (timestep - low) + below
    }

    /** The timestep at which a sigma lies, interpolated between the logarithms. */
    fun timestep(sigma: Double): Double {
        val logarithm = ln(max(sigma, 1e-10))
        val low = min(max(logarithms.indexOfLast { it <= logarithm }, 0), logarithms.size - 2)
        // The distance in fp32 as in diffusers: where timesteps are cut to whole ones, the last digit counts.
        val distance = (logarithms[low] - logarithms[low + 1]).toDouble()
        val weight = min(max((logarithms[low] - logarithm) / distance, 0.0), 1.0)
        return (1 - weight) * low + weight * (low + 1)
    }

    /** From the most to the least noise, spread evenly in their logarithms; fp32 as in diffusers. */
    fun logLinear(count: Int): DoubleArray =
        NoiseSchedule.evenly(logarithms.last().toDouble(), logarithms.first().toDouble(), count)
            .let { spread -> DoubleArray(count) { exp(spread[it]).toDouble() } }

    /** From the most to the least noise, spread evenly in their logarithms, whose ends are fp32 (arXiv 2206.00927). */
    fun lu(count: Int): DoubleArray {
        val first = logarithms.last().toDouble()
        val last = logarithms.first().toDouble()
        val ramp = Spacing.linspace(0.0, 1.0, count)
        return DoubleArray(count) { exp(first + ramp[it] * (last - first)) }
    }

    companion object {
        /** Spread evenly in their 7th roots (arXiv 2206.00364). */
        fun karras(most: Double, least: Double, count: Int): DoubleArray {
            val first = most.pow(1 / 7.0)
            val last = least.pow(1 / 7.0)
            val ramp = Spacing.linspace(0.0, 1.0, count)
            return DoubleArray(count) { (first + ramp[it] * (last - first)).pow(7.0) }
        }

        /** Spread evenly in their logarithms. */
        fun exponential(most: Double, least: Double, count: Int): DoubleArray {
            val spread = Spacing.linspace(ln(most), ln(least), count)
            return DoubleArray(count) { exp(spread[it]) }
        }

        /** In fp32, with where the last step ends behind them; refused where the noise does not fall. */
        fun ended(run: DoubleArray, last: Double, steps: Int): DoubleArray {
            val sigmas = DoubleArray(run.size + 1) { (if (it < run.size) run[it] else last).toFloat().toDouble() }
            for (index in 1 until steps) {
                if (sigmas[index] >= sigmas[index - 1]) {
                    throw BundleException("steps = $steps: the noise does not fall in each; take fewer steps")
                }
            }
            return sigmas
        }
    }
}
