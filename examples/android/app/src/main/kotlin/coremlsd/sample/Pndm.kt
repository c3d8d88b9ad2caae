// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

/**
 * Pseudo numerical methods with linear multisteps, without Runge-Kutta steps (arXiv 2202.09778), as in
 * diffusers. The second timestep comes twice: the first step is taken again as the mean of two predictions.
 */
class Pndm(private val config: SchedulerConfig, steps: Int) : Scheduler {
    private val alphas = NoiseSchedule(config, rescales = false).alphas
    private val indices: IntArray
    private val stride = alphas.size / steps
    private val lastAlpha = if (config.flag("set_alpha_to_one") == true) 1f else alphas[0]
    private val predictions = ArrayList<FloatArray>() // the newest last
    private var first = FloatArray(0)

    override val timesteps: FloatArray

    init {
        val placed = indices(Spacing.timesteps(config, "leading", steps), alphas.size)
        indices = if (steps > 1) intArrayOf(placed[0], placed[1]) + placed.drop(1) else placed
        timesteps = FloatArray(indices.size) { indices[it].toFloat() }
    }

    override fun step(index: Int, prediction: FloatArray, latent: FloatArray): FloatArray {
        if (index == 1) {
            val mean = combine(0.5, prediction, 0.5, predictions.last())
            return move(first, mean, indices[index] + stride)
        }
        if (index == 0) first = latent
        predictions.add(prediction)
        if (predictions.size > WEIGHTS.size) predictions.removeAt(0)
        val weights = WEIGHTS[predictions.size - 1]
        val sum = FloatArray(latent.size) { at ->
            var total = 0.0
            for (age in weights.indices) total += weights[age] * predictions[age][at]
            total.toFloat()
        }
        return move(latent, sum, indices[index])
    }

    /** One stride down from a timestep along a sum of predictions. */
    private fun move(latent: FloatArray, prediction: FloatArray, timestep: Int): FloatArray {
        val alpha = alphas[minOf(timestep, alphas.size - 1)]
        val next = if (timestep < stride) lastAlpha else alphas[timestep - stride]
        val now = Parts.ofAlpha(alpha)
        val then = Parts.ofAlpha(next)
        val divisor = now.picture * (now.picture * then.noise + now.noise * then.picture)
        val noise = now.noise(config.prediction, prediction, latent)
        return combine(then.picture / now.picture, latent, -(next.toDouble() - alpha) / divisor, noise)
    }

    private companion object {
        /** Of one to four predictions, the newest last. */
        val WEIGHTS = listOf(
            doubleArrayOf(1.0),
            doubleArrayOf(-1 / 2.0, 3 / 2.0),
            doubleArrayOf(5 / 12.0, -16 / 12.0, 23 / 12.0),
            doubleArrayOf(-9 / 24.0, 37 / 24.0, -59 / 24.0, 55 / 24.0)
        )
    }
}
