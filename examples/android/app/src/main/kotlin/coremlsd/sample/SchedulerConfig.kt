// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import org.json.JSONArray
import org.json.JSONObject

/** A scheduler config of diffusers: what it sets, null where it says nothing. */
class SchedulerConfig(private val json: JSONObject) {
    val trainSteps: Int get() = whole("num_train_timesteps") ?: 1000
    val stepsOffset: Int get() = whole("steps_offset") ?: 0

    /** What the network predicts. */
    val prediction: String get() = word("prediction_type") ?: "epsilon"

    fun word(key: String): String? = value(key) as? String

    fun flag(key: String): Boolean? = value(key) as? Boolean

    fun whole(key: String): Int? = value(key) as? Int

    fun number(key: String): Double? = (value(key) as? Number)?.toDouble()

    fun numbers(key: String): DoubleArray? =
        (value(key) as? JSONArray)?.let { list -> DoubleArray(list.length()) { list.optDouble(it) } }

    /** Whether it is set to something; JSON's null is not. */
    fun has(key: String): Boolean = value(key) != null

    fun isNull(key: String): Boolean = json.has(key) && json.isNull(key)

    private fun value(key: String): Any? = if (json.isNull(key)) null else json.get(key)
}
