// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import kotlin.math.round

/** From noise to a latent: which timesteps to visit, and how one prediction changes the latent. */
interface Scheduler {
    val timesteps: FloatArray

    /** What the first noise is multiplied with. */
    val initialNoiseScale: Float get() = 1f

    /** What the latent is multiplied with before the network reads it at a step. */
    fun inputScale(index: Int): Float = 1f

    /** The latent after step `index`; a scheduler with a memory wants the steps in order. */
    fun step(index: Int, prediction: FloatArray, latent: FloatArray): FloatArray
}

/** Names of `coreml-sd generate --scheduler` that this app has. */
val SCHEDULERS = listOf("dpm++", "dpm++-karras", "ddim", "pndm", "euler")

/** Make one by its name; what it cannot honour in a model's scheduler config is refused by its key. */
fun makeScheduler(name: String, config: SchedulerConfig, steps: Int): Scheduler {
    if (name !in SCHEDULERS) throw BundleException("scheduler $name: choose from ${SCHEDULERS.joinToString()}")
    Supported(name, config).check()
    val train = config.trainSteps
    if (steps !in 1..train) throw BundleException("steps = $steps: give a number from 1 to $train")
    return when (name) {
        "ddim" -> Ddim(config, steps)
        "pndm" -> Pndm(config, steps)
        "euler" -> Euler(config, steps)
        else -> DpmSolverMultistep(config, steps, karras = name == "dpm++-karras")
    }
}

/** How timesteps are spread over those of the training, from the last one down. */
internal object Spacing {
    /** `extra` is 1 where diffusers spreads one more and leaves the last one out. */
    fun timesteps(config: SchedulerConfig, default: String, steps: Int, extra: Int = 0, rounds: Boolean = true): DoubleArray {
        val train = config.trainSteps
        val count = steps + extra
        return when (config.word("timestep_spacing") ?: default) {
            "leading" -> DoubleArray(steps) { ((count - 1 - it) * (train / count) + config.stepsOffset).toDouble() }
            "trailing" -> DoubleArray(steps) { round(train - it * (train.toDouble() / steps)) - 1 }
            else -> {
                val spread = linspace(0.0, train - 1.0, count)
                DoubleArray(steps) { index -> spread[count - 1 - index].let { if (rounds) round(it) else it } }
            }
        }
    }

    /** `numpy.linspace`, the end included. */
    fun linspace(first: Double, last: Double, count: Int): DoubleArray =
        DoubleArray(count) { if (it == count - 1 && count > 1) last else it * ((last - first) / (count - 1)).orZero() + first }

    private fun Double.orZero() = if (isNaN() || isInfinite()) 0.0 else this
}

/** Timesteps as indices of the training's; refused where one lies outside. */
internal fun indices(timesteps: DoubleArray, train: Int): IntArray = IntArray(timesteps.size) {
    if (timesteps[it] < 0 || timesteps[it] >= train) {
        throw BundleException("steps = ${timesteps.size}: one lies outside the model's $train; take fewer steps")
    }
    timesteps[it].toInt()
}

/** `a * x + b * y`, element by element. */
internal fun combine(a: Double, x: FloatArray, b: Double, y: FloatArray): FloatArray =
    FloatArray(x.size) { (a * x[it] + b * y[it]).toFloat() }
