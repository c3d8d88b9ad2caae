// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import kotlin.math.ln
import kotlin.math.sqrt

/** DPM-Solver++ of second order, multistep, midpoint (arXiv 2211.01095), as in diffusers. */
class DpmSolverMultistep(private val config: SchedulerConfig, private val steps: Int) : Scheduler {
    override val timesteps: IntArray
    private val alphas = config.alphas()
    private val sigmas: DoubleArray // noise over signal at each step, and after the last
    private val endsAtZero: Boolean
    private var earlier: FloatArray? = null

    init {
        config.refuse(
            "rescale_betas_zero_snr", "thresholding", "use_karras_sigmas", "use_exponential_sigmas",
            "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas", "use_dynamic_shifting"
        )
        val solver = config.word("solver_type", "midpoint")
        if (solver != "midpoint") throw BundleException("solver_type $solver: this sample has midpoint")
        timesteps = when (val spacing = config.word("timestep_spacing", "linspace")) {
            "linspace" -> linspace(config.trainSteps - 1, steps + 1).copyOf(steps)
            "leading" -> {
                val stride = config.trainSteps / (steps + 1)
                IntArray(steps) { (steps - it) * stride + config.stepsOffset }
            }
            "trailing" -> trailing(config.trainSteps, steps)
            else -> throw BundleException("timestep_spacing $spacing: this sample lacks it")
        }
        endsAtZero = when (val end = config.word("final_sigmas_type", "zero")) {
            "zero" -> true
            "sigma_min" -> false
            else -> throw BundleException("final_sigmas_type $end: this sample lacks it")
        }
        val last = if (endsAtZero) 0.0 else sigma(0)
        sigmas = DoubleArray(steps + 1) { if (it < steps) sigma(timesteps[it]) else last }
    }

    override fun step(index: Int, prediction: FloatArray, latent: FloatArray): FloatArray {
        val here = sigmas[index]
        val next = sigmas[index + 1]
        val picture = config.picture(prediction, latent, 1 / (here * here + 1))
        val before = earlier
        earlier = picture
        val signal = 1 / sqrt(next * next + 1)
        val kept = signal * next / (here / sqrt(here * here + 1))
        val moved = signal * (1 - next / here)
        if (before == null || isFirstOrder(index)) return combine(kept, latent, moved, picture)
        // Half of the picture's change over the last step, scaled to this one, is added to it.
        val slope = ln(here / next) / ln(sigmas[index - 1] / here) / 2
        val ahead = combine(1 + slope, picture, -slope, before)
        return combine(kept, latent, moved, ahead)
    }

    private fun isFirstOrder(index: Int): Boolean {
        val lowerAtEnd = config.flag("lower_order_final", true) && steps < FEW_STEPS
        return index == steps - 1 && (endsAtZero || lowerAtEnd || config.flag("euler_at_final", false))
    }

    private fun sigma(timestep: Int) = sqrt((1 - alphas[timestep]) / alphas[timestep])

    private companion object {
        const val FEW_STEPS = 15 // below this diffusers ends with a step of first order
    }
}
