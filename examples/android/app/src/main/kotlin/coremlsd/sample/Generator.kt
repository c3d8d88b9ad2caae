// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import java.util.Random
import java.util.concurrent.CancellationException
import java.util.concurrent.ExecutionException
import java.util.concurrent.Executors
import java.util.concurrent.Future
import kotlin.math.round

/** What to draw. `guidance` 1 or less leaves the negative prompt out; without a `scheduler` it is the model's own. */
data class Request(
    val prompt: String,
    val negativePrompt: String = "",
    val steps: Int,
    val guidance: Float,
    val seed: Long = 0,
    val scheduler: String? = null
)

/** A picture, row by row, one 0xAARRGGBB a pixel; `cut` is the part of the prompt that did not fit. */
class Picture(val width: Int, val height: Int, val pixels: IntArray, val cut: String, val accelerators: Map<String, String>)

/** The networks gave NaN or infinity. */
class OverflowException(message: String) : Exception(message)

/**
 * Prompt to picture, with at most two networks in memory.
 *
 * The text encoder is closed before the UNet is opened, the UNet stays, and a second thread opens the
 * decoder during the last steps, so that nobody waits for it: the peak is the UNet and the larger of
 * the two others ("Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193).
 *
 * One picture at a time. `preload` is the number of steps before the end at which the decoder is
 * opened; 0 opens it after the loop, for drivers that cannot compile beside a running network.
 */
class Generator(
    private val manifest: Manifest,
    private val tokenizer: ClipTokenizer,
    private val preload: Int = 2,
    private val open: (NetworkFile) -> Network
) : AutoCloseable {
    private val facts = manifest.facts
    private val loader = Executors.newSingleThreadExecutor()
    private var denoiser = facts.usualDenoiser
    private var unet: Network? = null

    /**
     * Draw. `onStep` is told each finished step and the number of all; `isCancelled` is asked between
     * steps. `noise` has the latent's size; by default it comes from Java's generator, so a seed gives
     * another picture here than in torch.
     *
     * Throws [BundleException], [OverflowException], [CancellationException] and what `open` throws.
     */
    fun draw(
        request: Request,
        onStep: (Int, Int) -> Unit = { _, _ -> },
        isCancelled: () -> Boolean = { false },
        noise: FloatArray = gaussian(request.seed)
    ): Picture {
        if (request.prompt.isBlank()) throw BundleException("the prompt is empty; say what to draw")
        if (request.steps !in 1..Limits.STEPS) throw BundleException("steps = ${request.steps}: give a number from 1 to ${Limits.STEPS}")
        if (!(request.guidance <= Limits.GUIDANCE)) throw BundleException("guidance = ${request.guidance}: give a number up to ${Limits.GUIDANCE}")
        val scheduler = makeScheduler(request.scheduler ?: facts.schedulerName, facts.scheduler, request.steps)
        choose(request.steps)
        val used = LinkedHashMap<String, String>()
        val prompt = tokenizer.encode(request.prompt)
        val guided = request.guidance > 1 && denoiser.combines
        val tokens = if (guided) listOf(tokenizer.encode(request.negativePrompt), prompt) else listOf(prompt)
        val encodings = if (denoiser.textOutputs.isEmpty()) tokens.map { emptyMap<String, FloatArray>() } else embed(tokens, used)
        val conditions = encodings.map { conditions(it, request.guidance) }
        if (isCancelled()) throw CancellationException()

        var decoder: Future<Network>? = null
        try {
            val resident = residentUnet()
            used[denoiser.component] = resident.accelerator
            val steps = scheduler.timesteps.size
            var latent = scaled(noise, scheduler.initialNoiseScale)
            for ((index, timestep) in scheduler.timesteps.withIndex()) {
                if (isCancelled()) throw CancellationException()
                if (index == maxOf(0, steps - preload)) decoder = openDecoder()
                val sample = scaled(latent, scheduler.inputScale(index))
                val rows = predict(resident, sample, timestep, conditions)
                val prediction = if (guided) combine(1.0 - request.guidance, rows[0], request.guidance.toDouble(), rows[1]) else rows[0]
                latent = scheduler.step(index, prediction, latent)
                onStep(index + 1, steps)
            }
            checkFinite(latent, "the latent")
            if (decoder == null) decoder = openDecoder()
            val network = opened(decoder)
            used[Names.VAE_DECODER] = network.accelerator
            return Picture(facts.width, facts.height, decode(network, latent), prompt.cut, used)
        } finally {
            decoder?.let { closeQuietly(it) }
        }
    }

    /** Free the UNet and the second thread. */
    override fun close() {
        loader.shutdown()
        unet?.close()
        unet = null
    }

    /** For each prompt what the text encoder gives: states `(tokens, channels)` or pooled `(channels)`, by name. */
    private fun embed(prompts: List<EncodedPrompt>, used: MutableMap<String, String>): List<Map<String, FloatArray>> {
        val file = manifest.network(Names.TEXT_ENCODER)
        val lacking = denoiser.textOutputs.find { it !in file.outputs }
        if (lacking != null) throw BundleException("${file.signature} gives ${file.outputs.joinToString()}, not ${lacking.take(100)}; convert again")
        return open(file).use { encoder ->
            used[Names.TEXT_ENCODER] = encoder.accelerator
            prompts.map { prompt ->
                encoder.write(Names.INPUT_IDS, prompt.ids)
                encoder.run()
                denoiser.textOutputs.associateWith { encoder.read(it) }
            }
        }
    }

    /** One row of each of the denoiser's further inputs, by name. */
    private fun conditions(encoding: Map<String, FloatArray>, guidance: Float): Map<String, FloatArray> =
        denoiser.conditions.mapValues { (name, condition) ->
            when (condition) {
                is Condition.Text -> text(name, condition.outputs, encoding)
                is Condition.Size -> {
                    val (height, width) = Pair(facts.height.toFloat(), facts.width.toFloat())
                    floatArrayOf(height, width, 0f, 0f, height, width)
                }
                is Condition.Guidance -> guidanceEmbedding(guidance, condition.width)
            }
        }

    /** Pooled outputs one after another, or states `(channels, tokens)`, the order that the UNet takes them in. */
    private fun text(name: String, outputs: List<String>, encoding: Map<String, FloatArray>): FloatArray {
        val pooled = manifest.network(Names.TEXT_ENCODER).pooled
        val isPooled = outputs.map { it in pooled }.distinct().singleOrNull()
            ?: throw BundleException("the condition ${name.take(100)} joins states and pooled outputs; convert again")
        val parts = outputs.map { encoding.getValue(it) }
        return joined(if (isPooled) parts else parts.map { transposed(it, facts.tokenizer.length) })
    }

    /** The denoiser for so many steps; the network of another one is closed. */
    private fun choose(steps: Int) {
        val chosen = facts.denoiser(steps)
        if (chosen.component != denoiser.component) {
            unet?.close()
            unet = null
        }
        denoiser = chosen
    }

    private fun residentUnet(): Network {
        unet?.let { return it }
        val file = manifest.network(denoiser.component)
        val told = denoiser.conditions.keys + Names.SAMPLE + Names.TIMESTEP
        if (file.inputs.toSet() != told) {
            throw BundleException("${file.signature} takes ${file.inputs.joinToString()}, not ${told.joinToString().take(200)}; convert again")
        }
        return open(file).also { unet = it }
    }

    private fun openDecoder(): Future<Network> {
        val file = manifest.network(Names.VAE_DECODER)
        return loader.submit<Network> { open(file) }
    }

    /** The UNet's prediction for each row of the conditions, in as many runs as its batch asks for. */
    private fun predict(
        unet: Network,
        latent: FloatArray,
        timestep: Float,
        conditions: List<Map<String, FloatArray>>
    ): List<FloatArray> {
        val batch = facts.batch(denoiser)
        val predictions = ArrayList<FloatArray>()
        for (begin in conditions.indices step batch) {
            val rows = List(batch) { conditions[minOf(begin + it, conditions.size - 1)] }
            unet.write(Names.SAMPLE, joined(List(batch) { latent }))
            unet.write(Names.TIMESTEP, FloatArray(batch) { timestep })
            for (name in denoiser.conditions.keys) unet.write(name, joined(rows.map { it.getValue(name) }))
            unet.run()
            val result = unet.read(Names.NOISE_PRED)
            checkCount(result, batch * latent.size, denoiser.component)
            for (row in 0 until minOf(batch, conditions.size - begin)) {
                predictions += result.copyOfRange(row * latent.size, (row + 1) * latent.size)
            }
        }
        return predictions
    }

    private fun decode(decoder: Network, latent: FloatArray): IntArray {
        decoder.write(Names.Z, FloatArray(latent.size) { latent[it] / facts.scalingFactor + facts.shiftFactor })
        decoder.run()
        val image = decoder.read(Names.IMAGE)
        checkFinite(image, "the picture")
        val plane = facts.width * facts.height
        checkCount(image, 3 * plane, Names.VAE_DECODER)
        fun level(value: Float) = round((value.coerceIn(-1f, 1f) + 1.0) * 127.5).toInt()
        return IntArray(plane) {
            OPAQUE or (level(image[it]) shl 16) or (level(image[plane + it]) shl 8) or level(image[2 * plane + it])
        }
    }

    private fun gaussian(seed: Long): FloatArray {
        val random = Random(seed)
        return FloatArray(facts.latentChannels * facts.latentHeight * facts.latentWidth) { random.nextGaussian().toFloat() }
    }

    private companion object {
        const val OPAQUE = 0xFF shl 24

        /** `(rows, columns)` to `(columns, rows)`. */
        fun transposed(values: FloatArray, rows: Int): FloatArray {
            val columns = values.size / rows
            return FloatArray(values.size) { values[it % rows * columns + it / rows] }
        }

        fun joined(rows: List<FloatArray>): FloatArray {
            val whole = FloatArray(rows.map { it.size }.sum())
            var begin = 0
            for (row in rows) {
                row.copyInto(whole, begin)
                begin += row.size
            }
            return whole
        }

        fun scaled(values: FloatArray, scale: Float): FloatArray =
            if (scale == 1f) values else FloatArray(values.size) { values[it] * scale }

        fun checkCount(values: FloatArray, count: Int, network: String) {
            if (values.size != count) throw BundleException("$network gives ${values.size} numbers, not $count; convert again")
        }

        fun checkFinite(values: FloatArray, what: String) {
            for (value in values) {
                if (value.isNaN() || value.isInfinite()) {
                    throw OverflowException("$what holds NaN or infinity; let the GPU compute in 32 bits")
                }
            }
        }

        fun opened(pending: Future<Network>): Network = try {
            pending.get()
        } catch (error: ExecutionException) {
            throw error.cause ?: error
        }

        /** Wait for a network that may still be loading and free it; its own failure was told before. */
        fun closeQuietly(pending: Future<Network>) {
            try {
                pending.get().close()
            } catch (ignored: ExecutionException) {
                // It never opened, so there is nothing to free.
            }
        }
    }
}
