// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import kotlin.math.ln
import kotlin.math.round
import kotlin.math.truncate

/** DPM-Solver++ of second order, multistep (arXiv 2211.01095), as in diffusers. */
class DpmSolverMultistep(private val config: SchedulerConfig, private val steps: Int, karras: Boolean) : Scheduler {
    override val timesteps: FloatArray
    private val sigmas: DoubleArray // noise over picture at each step, and after the last
    private var earlier: FloatArray? = null

    init {
        val table = SigmaTable(NoiseSchedule(config, floor = Euler.LEAST_ALPHA))
        val most = config.number("sigma_max") ?: table.most
        val least = config.number("sigma_min") ?: table.least
        var rounds = config.word("beta_schedule") != "squaredcos_cap_v2"
        var spread: DoubleArray? = null
        if (karras || config.flag("use_karras_sigmas") == true) {
            spread = SigmaTable.karras(most, least, steps)
        } else if (config.flag("use_lu_lambdas") == true) {
            spread = table.lu(steps)
        } else if (config.flag("use_exponential_sigmas") == true) {
            spread = SigmaTable.exponential(most, least, steps)
            rounds = false
        }
        val placed = spread?.map { sigma -> table.timestep(sigma).let { if (rounds) round(it) else truncate(it) } }
            ?: Spacing.timesteps(config, "linspace", steps, extra = 1).toList()
        timesteps = FloatArray(steps) { placed[it].toFloat() }
        val run = spread ?: DoubleArray(steps) { table.sigma(placed[it]) }
        val last = if (config.word("final_sigmas_type") == "sigma_min") table.least else 0.0
        sigmas = SigmaTable.ended(run, last, steps)
    }

    override fun step(index: Int, prediction: FloatArray, latent: FloatArray): FloatArray {
        val now = Parts.ofSigma(sigmas[index])
        val next = Parts.ofSigma(sigmas[index + 1])
        val clean = now.clean(config.prediction, prediction, latent)
        val before = earlier
        earlier = clean
        val kept = next.noise / now.noise
        val moved = next.picture * (1 - sigmas[index + 1] / sigmas[index])
        if (before == null || isFirstOrder(index)) return combine(kept, latent, moved, clean)
        // The clean latent's change over the last step, scaled to this one, is added.
        val length = ln(sigmas[index] / sigmas[index + 1])
        val ratio = length / ln(sigmas[index - 1] / sigmas[index])
        val heun = config.word("solver_type") == "heun"
        val slope = if (heun) (next.picture - moved / length) * ratio else moved * ratio / 2
        return FloatArray(latent.size) {
            (kept * latent[it] + (moved + slope) * clean[it] - slope * before[it]).toFloat()
        }
    }

    private fun isFirstOrder(index: Int): Boolean {
        val lowerAtEnd = config.flag("lower_order_final") != false && steps < FEW_STEPS
        return index == steps - 1 && (sigmas.last() == 0.0 || lowerAtEnd || config.flag("euler_at_final") == true)
    }

    private companion object {
        const val FEW_STEPS = 15 // below this diffusers ends with a step of first order
    }
}
