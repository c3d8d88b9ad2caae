// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import kotlin.math.cos
import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.sin
import org.json.JSONObject

/**
 * What the denoiser takes beside the latent and the timestep, the same for all steps of a picture, by the names of its
 * inputs. `combines`: it takes a row for the negative prompt and one for the prompt; else the prompt's alone.
 */
data class DenoiserFacts(val component: String, val combines: Boolean, val conditions: Map<String, Condition>) {
    /** Of its inputs, for one picture. */
    val rows: Int get() = if (combines) 2 else 1

    /** Outputs of the text encoder that are asked for, each once. */
    val textOutputs: Set<String> get() = conditions.values.filterIsInstance<Condition.Text>().flatMap { it.outputs }.toSet()

    companion object {
        const val TEXT = "text"
        const val SIZE = "size"
        const val GUIDANCE = "guidance"
        const val COMBINED = "classifier-free"
        const val TOLD = "embedded"
        const val UNGUIDED = "none"
        private val OLDER = DenoiserFacts(
            Names.UNET, true, mapOf(Names.ENCODER_HIDDEN_STATES to Condition.Text(listOf(Names.LAST_HIDDEN_STATE)))
        )

        /** From `pipeline`, once it is checked; that of Stable Diffusion where nothing is told. */
        fun read(pipeline: JSONObject): DenoiserFacts {
            val json = pipeline.optJSONObject("denoiser")
            if (json == null) {
                if (pipeline.has("tokenizer_2")) refuse("pipeline.tokenizer_2 stands for a second one")
                return OLDER
            }
            return read(json, "pipeline.denoiser")
        }

        /** Denoisers for few steps with the most that each draws with, the fewest first. */
        fun readFewSteps(pipeline: JSONObject): List<Pair<Int, DenoiserFacts>> {
            val list = pipeline.optJSONArray("few_steps") ?: return emptyList()
            return (0 until list.length()).map { index ->
                val few = list.getJSONObject(index)
                Pair(few.getInt("steps"), read(few.getJSONObject("denoiser"), "pipeline.few_steps[$index].denoiser"))
            }
        }

        private fun read(json: JSONObject, place: String): DenoiserFacts {
            val conditions = json.getJSONObject("conditions")
            val names = conditions.keys().asSequence().map { it.toString() }
            return DenoiserFacts(
                json.getString("component"),
                json.getString("guidance") == COMBINED,
                names.associateWith { condition(conditions.getJSONObject(it), "$place.conditions.$it") }
            )
        }

        private fun condition(json: JSONObject, place: String): Condition = when (json.getString("kind")) {
            SIZE -> Condition.Size
            GUIDANCE -> Condition.Guidance(json.getInt("width"))
            else -> Condition.Text(outputs(json, place))
        }

        private fun outputs(json: JSONObject, place: String): List<String> {
            val list = json.getJSONArray("outputs")
            return (0 until list.length()).map { index ->
                val output = list.getJSONObject(index)
                val encoder = output.getString("component")
                if (encoder != Names.TEXT_ENCODER) refuse("$place asks for $encoder")
                output.getString("output")
            }
        }

        private fun refuse(reason: String): Nothing =
            throw BundleException("this app has one text encoder, and ${reason.take(200)}; copy another bundle")
    }
}

/** Where one of the denoiser's inputs comes from. */
sealed class Condition {
    /** Outputs of the text encoder, joined along their channels in this order. */
    data class Text(val outputs: List<String>) : Condition()

    /** Of a whole picture: height and width before cropping, top and left of the crop, height and width. */
    object Size : Condition()

    /** The guidance as so many sines and cosines. */
    data class Guidance(val width: Int) : Condition()
}

private const val LONGEST_PERIOD = 10_000.0
private const val ANGLES = 1000.0

/**
 * Sines, then cosines of 1000 times the guidance less 1, at falling frequencies; an odd width ends with 0. As diffusers'
 * `get_guidance_scale_embedding`; "On Distillation of Guided Diffusion Models", arXiv 2210.03142.
 */
fun guidanceEmbedding(guidance: Float, width: Int): FloatArray {
    val half = width / 2
    return FloatArray(width) {
        val falling = exp(-ln(LONGEST_PERIOD) * (it % half) / maxOf(half - 1, 1))
        val angle = (guidance.toDouble() - 1) * ANGLES * falling
        if (it < half) sin(angle).toFloat() else if (it < 2 * half) cos(angle).toFloat() else 0f
    }
}
