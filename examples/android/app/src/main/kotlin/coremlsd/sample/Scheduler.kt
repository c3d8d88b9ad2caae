// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import kotlin.math.round
import kotlin.math.sqrt

/** From noise to a latent: which timesteps to visit, and how one prediction changes the latent. */
interface Scheduler {
    val timesteps: IntArray

    /** The latent after step `index`; a scheduler with a memory wants the steps in order. */
    fun step(index: Int, prediction: FloatArray, latent: FloatArray): FloatArray
}

/** Make one by the names that `coreml-sd generate --scheduler` uses. */
fun makeScheduler(name: String, config: SchedulerConfig, steps: Int): Scheduler = when (name) {
    "dpm++" -> DpmSolverMultistep(config, steps)
    "ddim" -> Ddim(config, steps)
    else -> throw BundleException("scheduler $name: choose dpm++ or ddim")
}

/** A scheduler config of diffusers: what it sets, and the defaults that diffusers has for the rest. */
class SchedulerConfig(private val settings: Map<String, Any>) {
    val trainSteps: Int get() = integer("num_train_timesteps", 1000)
    val stepsOffset: Int get() = integer("steps_offset", 0)
    val prediction: String get() = word("prediction_type", "epsilon")

    fun word(name: String, default: String): String = settings[name] as? String ?: default

    fun flag(name: String, default: Boolean): Boolean = settings[name] as? Boolean ?: default

    private fun integer(name: String, default: Int) = (settings[name] as? Number)?.toInt() ?: default

    private fun real(name: String, default: Double) = (settings[name] as? Number)?.toDouble() ?: default

    /** Refuse what would change the picture and is not written here. */
    fun refuse(vararg names: String) {
        for (name in names) {
            if (flag(name, false)) throw BundleException("the scheduler config sets $name, which this sample lacks")
        }
        if ("trained_betas" in settings) throw BundleException("the scheduler config sets trained_betas")
    }

    /** How much of the picture is left at each training step: the running product of 1 - beta. */
    fun alphas(): DoubleArray {
        val first = real("beta_start", 0.0001)
        val last = real("beta_end", 0.02)
        val schedule = word("beta_schedule", "linear")
        var product = 1.0
        return DoubleArray(trainSteps) { index ->
            val along = index / (trainSteps - 1.0)
            val beta = when (schedule) {
                "linear" -> first + (last - first) * along
                "scaled_linear" -> squared(sqrt(first) + (sqrt(last) - sqrt(first)) * along)
                else -> throw BundleException("beta_schedule $schedule: this sample has linear and scaled_linear")
            }
            product *= 1 - beta
            product
        }
    }

    /** The picture `x0` that a prediction stands for, where alpha is the part of it left at this step. */
    fun picture(prediction: FloatArray, latent: FloatArray, alpha: Double): FloatArray {
        val signal = sqrt(alpha)
        val noise = sqrt(1 - alpha)
        return when (this.prediction) {
            "epsilon" -> combine(1 / signal, latent, -noise / signal, prediction)
            "v_prediction" -> combine(signal, latent, -noise, prediction)
            "sample" -> prediction
            else -> throw BundleException("prediction_type ${this.prediction}: this sample lacks it")
        }
    }
}

/** `count` timesteps of `linspace`, from the last one down; halves round to even, as in numpy. */
internal fun linspace(last: Int, count: Int): IntArray =
    IntArray(count) { if (count == 1) 0 else round(last * (count - 1.0 - it) / (count - 1)).toInt() }

/** `trailing`: equal strides down from the last training step. */
internal fun trailing(trainSteps: Int, steps: Int): IntArray =
    IntArray(steps) { round(trainSteps - it * (trainSteps.toDouble() / steps)).toInt() - 1 }

/** `a * x + b * y`, element by element. */
internal fun combine(a: Double, x: FloatArray, b: Double, y: FloatArray): FloatArray =
    FloatArray(x.size) { (a * x[it] + b * y[it]).toFloat() }

private fun squared(value: Double) = value * value
