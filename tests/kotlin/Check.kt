// Runs the pure part of examples/android on a desktop JVM: questions in one JSON file, answers in another.
package coremlsd.sample

import java.io.File
import java.util.concurrent.CancellationException
import kotlin.math.sin
import org.json.JSONArray
import org.json.JSONObject

fun main(arguments: Array<String>) {
    val questions = JSONObject(File(arguments[0]).readText())
    val folder = File(questions.getString("folder"))
    val answers = JSONObject()
    answers.put("tokens", tokens(folder, questions.getJSONArray("prompts")))
    answers.put("schedules", list(questions.getJSONArray("schedules")) { schedule(it as JSONObject) })
    answers.put("pictures", list(questions.getJSONArray("pictures")) { picture(it as JSONObject) })
    answers.put("rules", list(questions.getJSONArray("rules")) { rule(it as JSONObject) })
    answers.put("guidances", list(questions.getJSONArray("guidances")) { guidance(it as JSONObject) })
    answers.put("bundles", list(questions.getJSONArray("bundles")) { bundle(File(it as String)) })
    File(arguments[1]).writeText(answers.toString())
}

private fun list(array: JSONArray, answer: (Any) -> Any): JSONArray =
    JSONArray((0 until array.length()).map { answer(array.get(it)) })

private fun array(values: FloatArray) = JSONArray(values.map { it.toDouble() })

private fun floats(values: JSONArray) = FloatArray(values.length()) { values.getDouble(it).toFloat() }

/** Why a manifest's text is refused, without its files; null where it is not. */
private fun rule(question: JSONObject): Any = refusal {
    val folder = File(question.getString("folder"))
    File(folder, "manifest.json").writeText(question.getString("manifest"))
    try {
        Manifest.read(folder)
    } catch (error: BundleException) {
        if (!error.message.orEmpty().endsWith(": missing; copy the whole bundle")) throw error
    }
}

/** Why a bundle is refused; null where it is not. */
private fun bundle(folder: File): Any = refusal {
    ClipTokenizer.read(folder, Manifest.read(folder).facts.tokenizer)
}

private fun guidance(question: JSONObject): JSONArray =
    array(guidanceEmbedding(question.getDouble("guidance").toFloat(), question.getInt("width")))

private fun refusal(work: () -> Unit): Any = try {
    work()
    JSONObject.NULL
} catch (error: BundleException) {
    error.message.orEmpty()
}

private fun tokens(folder: File, prompts: JSONArray): JSONArray {
    val tokenizer = ClipTokenizer.read(folder, Manifest.read(folder).facts.tokenizer)
    return list(prompts) {
        val encoded = tokenizer.encode(it as String)
        JSONObject().put("ids", JSONArray(encoded.ids.toList())).put("cut", encoded.cut)
    }
}

/** Walk a whole schedule with given predictions; a refusal is an answer too. */
private fun schedule(question: JSONObject): JSONObject {
    val answer = JSONObject()
    try {
        val steps = question.getInt("steps")
        val scheduler = makeScheduler(question.getString("name"), SchedulerConfig(question.getJSONObject("config")), steps)
        val noise = floats(question.getJSONArray("latent"))
        val feedback = question.getDouble("feedback").toFloat() // of what the network reads in what it gives
        val predictions = question.getJSONArray("predictions")
        var latent = FloatArray(noise.size) { noise[it] * scheduler.initialNoiseScale }
        for (index in scheduler.timesteps.indices) {
            val scale = scheduler.inputScale(index)
            val given = floats(predictions.getJSONArray(index))
            val prediction = FloatArray(latent.size) { given[it] + feedback * (scale * latent[it]) }
            latent = scheduler.step(index, prediction, latent)
        }
        answer.put("timesteps", array(scheduler.timesteps)).put("latent", array(latent))
    } catch (error: BundleException) {
        answer.put("refused", error.message)
    }
    return answer
}

/** Draw with networks that are formulas, writing down what is opened and closed, and when. */
private fun picture(question: JSONObject): JSONObject {
    val manifest = Manifest.read(File(question.getString("folder")))
    val tokenizer = ClipTokenizer.read(File(question.getString("folder")), manifest.facts.tokenizer)
    val log = JSONArray()
    val stopAfter = question.optInt("stop_after", Int.MAX_VALUE)
    val fails = question.optString("fails")
    var done = 0
    val answer = JSONObject()
    val generator = Generator(manifest, tokenizer, question.optInt("preload", 2)) { file ->
        synchronized(log) { log.put("open " + file.signature) }
        if (file.signature == fails) throw BundleException("$fails does not open")
        Formula(file, manifest.facts, question.optBoolean("overflows")) { synchronized(log) { log.put(it) } }
    }
    val request = Request(
        prompt = question.getString("prompt"),
        negativePrompt = question.getString("negative"),
        steps = question.getInt("steps"),
        guidance = question.getDouble("guidance").toFloat(),
        scheduler = if (question.isNull("scheduler")) null else question.getString("scheduler")
    )
    try {
        val drawn = generator.draw(
            request,
            onStep = { step, _ -> done = step; synchronized(log) { log.put("step $step") } },
            isCancelled = { done >= stopAfter },
            noise = floats(question.getJSONArray("noise"))
        )
        answer.put("pixels", JSONArray(drawn.pixels.toList())).put("width", drawn.width).put("height", drawn.height)
    } catch (error: CancellationException) {
        answer.put("stopped", true)
    } catch (error: Exception) {
        answer.put("failed", error.javaClass.simpleName + ": " + error.message)
    } finally {
        generator.close()
    }
    return answer.put("log", log)
}

/** A stand-in for a network: the formulas that tests/examples/test_android_kotlin.py computes with numpy. */
private class Formula(
    private val file: NetworkFile,
    private val facts: PipelineFacts,
    private val overflows: Boolean,
    private val log: (String) -> Unit
) : Network {
    override val accelerator = "desktop"
    private val values = HashMap<String, FloatArray>()

    override fun write(name: String, values: FloatArray) {
        check(name in file.inputs)
        this.values[name] = values
    }

    override fun write(name: String, values: IntArray) = write(name, FloatArray(values.size) { values[it].toFloat() })

    override fun run() {
        when (file.signature) {
            Names.TEXT_ENCODER -> {
                values[Names.LAST_HIDDEN_STATE] = embedding(values.getValue(Names.INPUT_IDS))
                values["pooled_outputs"] = FloatArray(3) { values.getValue(Names.INPUT_IDS)[it] / 1000 }
            }
            Names.VAE_DECODER -> values[Names.IMAGE] = image(values.getValue(Names.Z))
            else -> values[Names.NOISE_PRED] = prediction()
        }
    }

    override fun read(name: String): FloatArray {
        check(name in file.outputs)
        return values.getValue(name)
    }

    override fun close() = log("close " + file.signature)

    /** Token t, channel c: (id + c * t) / 1000. */
    private fun embedding(ids: FloatArray): FloatArray {
        val width = 4
        return FloatArray(ids.size * width) { (ids[it / width] + it % width * (it / width)) / 1000 }
    }

    /** Half the sample, a quarter in networks for few steps, and waves of the timestep, of the context at channel 1, token 2, and of others' second number. */
    private fun prediction(): FloatArray {
        val sample = values.getValue(Names.SAMPLE)
        val context = values.getValue(Names.ENCODER_HIDDEN_STATES)
        val timesteps = values.getValue(Names.TIMESTEP)
        val batch = timesteps.size
        val row = sample.size / batch
        val contextRow = context.size / batch
        val part = if (file.signature == Names.UNET) 2 else 4
        return FloatArray(sample.size) {
            val at = it / row
            val told = context[at * contextRow + facts.tokenizer.length + 2]
            var waves = sin(20 * told) / 10 + sin(timesteps[at] / 100) / 10
            for (name in file.inputs - KNOWN) {
                val other = values.getValue(name)
                waves += sin(other[at * (other.size / batch) + 1]) / 10
            }
            if (overflows) Float.NaN else sample[it] / part + waves
        }
    }

    private companion object {
        val KNOWN = listOf(Names.SAMPLE, Names.TIMESTEP, Names.ENCODER_HIDDEN_STATES)
    }

    /** Red, green and blue are the first three channels, each value as large as a square of pixels. */
    private fun image(z: FloatArray): FloatArray {
        val scale = facts.height / facts.latentHeight
        val plane = facts.width * facts.height
        return FloatArray(3 * plane) {
            val y = it % plane / facts.width / scale
            val x = it % plane % facts.width / scale
            z[(it / plane * facts.latentHeight + y) * facts.latentWidth + x] / 4
        }
    }
}
