// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import java.io.File
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** What the user can put right: a missing file, a bundle for another platform, an empty prompt. */
class BundleException(message: String) : Exception(message)

/** One .tflite file: its single signature and the names of its tensors; `pooled` are the outputs `(1, channels)`. */
data class NetworkFile(
    val file: File,
    val signature: String,
    val inputs: List<String>,
    val outputs: List<String>,
    val pooled: Set<String>
)

/**
 * The ids that frame a prompt, the length that it is padded to, and the words that are found whole; where `added` is
 * null, these are both marks and the padding.
 */
data class TokenizerFacts(
    val start: Int,
    val end: Int,
    val padding: Int,
    val length: Int,
    val added: List<AddedToken>? = null
)

/** Sizes and constants of the pipeline; `batch` is the UNet's. `steps`, `guidance` and `schedulerName` suit the model. */
data class PipelineFacts(
    val height: Int,
    val width: Int,
    val latentHeight: Int,
    val latentWidth: Int,
    val latentChannels: Int,
    val scalingFactor: Float,
    val shiftFactor: Float,
    val batch: Int,
    val steps: Int,
    val guidance: Float,
    val schedulerName: String,
    val tokenizer: TokenizerFacts,
    val usualDenoiser: DenoiserFacts,
    val fewSteps: List<Pair<Int, DenoiserFacts>>,
    val scheduler: SchedulerConfig
) {
    /** That draws with so many steps: of those for few steps the one for the fewest that are enough. */
    fun denoiser(steps: Int): DenoiserFacts = fewSteps.find { steps <= it.first }?.second ?: usualDenoiser

    /** Rows that it takes at once: one for few steps takes no more than a picture has. */
    fun batch(denoiser: DenoiserFacts): Int = if (denoiser == usualDenoiser) batch else minOf(batch, denoiser.rows)
}

/** A bundle that `coreml-sd convert --target tflite` wrote: its facts and its networks. */
class Manifest private constructor(
    val facts: PipelineFacts,
    /** Which scheduler is taken for the model's own, where that is not here; else empty. */
    val schedulerNote: String,
    private val networks: Map<String, NetworkFile>
) {

    /** The file of a component. */
    fun network(component: String): NetworkFile = networks[component]
        ?: throw BundleException("the bundle has no $component for ${Names.TARGET}; convert with --target ${Names.TARGET}")

    companion object {
        private const val FORMAT = "coreml-sd bundle"
        private const val VERSION = 1
        private const val OLDER_SCHEDULER = "dpm++" // these three where a manifest names none
        private const val OLDER_STEPS = 20
        private const val OLDER_GUIDANCE = 7.5
        private val FAMILIES = listOf("stable-diffusion", "mobile-diffusion") // that need not tell their denoiser

        /**
         * Read `manifest.json` in a folder and compare the files that this app uses with it: size and SHA-256, which
         * takes seconds for a large model. Throws [BundleException] where the bundle cannot be used.
         */
        fun read(folder: File): Manifest {
            val path = File(folder, "manifest.json")
            if (!path.isFile) throw BundleException("no manifest.json in $folder; copy a bundle there")
            try {
                val files = BundleFiles(folder)
                val text = files.text("manifest.json")
                val json = StrictJson.table(text)
                checkHead(Field(json, ""))
                if (!BundleFiles.isIntact(text, json)) throw BundleException("$path: changed since the conversion; convert again")
                BundleRules(json).check()
                val networks = networks(folder, json.getJSONObject("components"))
                val used = networks.values.map { it.file.relativeTo(folder).path.replace(File.separatorChar, '/') }
                files.check(json.getJSONObject("files"), used.toSet() + ClipTokenizer.FILES)
                return Manifest(pipeline(json.getJSONObject("pipeline")), schedulerNote(json), networks)
            } catch (error: JSONException) {
                throw BundleException("$path: ${error.message}; convert again")
            }
        }

        /** Format, version and family first: others may differ in everything else. */
        private fun checkHead(manifest: Field) {
            manifest["format"].require(manifest["format"].text() == FORMAT, "is not $FORMAT")
            val version = manifest["manifest_version"].whole(1..Int.MAX_VALUE)
            if (version > VERSION) throw BundleException("manifest version $version, this app reads up to $VERSION; update the app")
            val family = manifest["pipeline"]["family"].text()
            val isOlder = manifest["pipeline"]["denoiser"].ifThere { true } == null
            if (isOlder && family !in FAMILIES) {
                throw BundleException(
                    "pipeline.family is ${family.take(100)}, and pipeline.denoiser does not say what it takes; " +
                        "without it this app draws with ${FAMILIES.joinToString()}; copy another bundle"
                )
            }
        }

        private fun schedulerNote(json: JSONObject): String =
            json.optJSONArray("notes")?.let(::strings)?.find { it.startsWith("scheduler: ") } ?: ""

        private fun networks(folder: File, components: JSONObject): Map<String, NetworkFile> {
            val found = HashMap<String, NetworkFile>()
            for (component in components.keys().asSequence().map { it.toString() }) {
                val files = components.getJSONObject(component).getJSONArray("files")
                val ours = objects(files).filter { it.getString("target") == Names.TARGET }
                if (ours.isEmpty()) continue
                if (ours.size > 1) throw BundleException("$component is cut into ${ours.size} files; this app takes one")
                val tensors = objects(components.getJSONObject(component).getJSONArray("outputs"))
                found[component] = NetworkFile(
                    file = File(folder, ours[0].getString("path")),
                    signature = component, // one a file, named like the component
                    inputs = strings(ours[0].getJSONArray("inputs")),
                    outputs = strings(ours[0].getJSONArray("outputs")),
                    pooled = tensors.filter { it.getJSONArray("shape").length() == 2 }.map { it.getString("name") }.toSet()
                )
            }
            return found
        }

        private fun pipeline(json: JSONObject): PipelineFacts {
            val size = json.getJSONArray("size")
            val latent = json.getJSONArray("latent_size")
            val advice = json.optJSONObject("advice") ?: JSONObject()
            return PipelineFacts(
                height = size.getInt(0),
                width = size.getInt(1),
                latentHeight = latent.getInt(0),
                latentWidth = latent.getInt(1),
                latentChannels = json.getInt("latent_channels"),
                scalingFactor = json.getDouble("scaling_factor").toFloat(),
                shiftFactor = json.optDouble("shift_factor", 0.0).toFloat(),
                batch = json.getInt("batch"),
                steps = advice.optInt("steps", OLDER_STEPS),
                guidance = advice.optDouble("guidance", OLDER_GUIDANCE).toFloat(),
                schedulerName = advice.optString("scheduler", OLDER_SCHEDULER),
                tokenizer = tokenizer(json.getJSONObject("tokenizer")),
                usualDenoiser = DenoiserFacts.read(json),
                fewSteps = DenoiserFacts.readFewSteps(json),
                scheduler = SchedulerConfig(json.getJSONObject("scheduler"))
            )
        }

        private fun tokenizer(json: JSONObject) = TokenizerFacts(
            start = json.getInt("bos_token_id"),
            end = json.getInt("eos_token_id"),
            padding = json.getInt("pad_token_id"),
            length = json.getInt("max_tokens"),
            added = json.optJSONArray("added_tokens")?.let { list -> objects(list).map { addedToken(it) } }
        )

        private fun addedToken(json: JSONObject) = AddedToken(
            content = json.getString("content"),
            id = json.getInt("id"),
            lstrip = json.getBoolean("lstrip"),
            rstrip = json.getBoolean("rstrip"),
            singleWord = json.getBoolean("single_word"),
            normalized = json.getBoolean("normalized")
        )

        private fun objects(array: JSONArray) = (0 until array.length()).map { array.getJSONObject(it) }

        private fun strings(array: JSONArray) = (0 until array.length()).map { array.getString(it) }
    }
}
