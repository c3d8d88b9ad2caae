// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import org.json.JSONArray
import org.json.JSONObject

/** A value of the manifest and its path, such as `pipeline.latent_size`; what is not as it must be is refused by it. */
internal class Field(private val value: Any?, private val path: String) {
    private val isThere = value != null && value != JSONObject.NULL

    fun refuse(problem: String): Nothing = throw BundleException("manifest.json: ${path.take(200)} $problem; convert again")

    fun require(condition: Boolean, problem: String) {
        if (!condition) refuse(problem)
    }

    operator fun get(key: String): Field = Field(table().opt(key), if (path.isEmpty()) key else "$path.$key")

    /** The value, unless there is none; a null is one. */
    fun <Result> ifThere(read: (Field) -> Result): Result? = if (value == null) null else read(this)

    fun table(): JSONObject = value as? JSONObject ?: refuse(if (isThere) "is no table" else "is missing")

    fun keys(): List<String> = table().keys().asSequence().map { it.toString() }.toList()

    fun list(): List<Field> {
        val list = value as? JSONArray ?: refuse("is no list")
        return (0 until list.length()).map { Field(list.get(it), path) }
    }

    fun text(): String = value as? String ?: refuse("is no text")

    fun flag(): Boolean = value as? Boolean ?: refuse("is neither true nor false")

    fun whole(range: LongRange): Long {
        val number = (value as? Int)?.toLong() ?: value as? Long ?: refuse("is no whole number")
        require(number in range, "is $number, not between ${range.first} and ${range.last}")
        return number
    }

    fun whole(range: IntRange): Int = whole(range.first.toLong()..range.last.toLong()).toInt()

    fun number(least: Double, most: Double): Double {
        val number = (value as? Number ?: refuse("is no number")).toDouble()
        require(number in least..most, "is $number, not between $least and $most")
        return number
    }

    fun factor(): Double = number(-Limits.FACTOR, Limits.FACTOR)

    /** Every number in it small enough, every list short enough. */
    fun checkNumbers() {
        when (value) {
            is Number -> factor()
            is JSONArray -> {
                require(value.length() <= Limits.TRAIN_TIMESTEPS, "has more than ${Limits.TRAIN_TIMESTEPS} entries")
                list().forEach { it.checkNumbers() }
            }
            is JSONObject -> keys().forEach { this[it].checkNumbers() }
        }
    }
}

/**
 * What a manifest may say: the rules of `scripts/fixtures/bundle_rules.py`, which hold in Python and Swift too. All
 * numbers are in their ranges before anything is reckoned or reserved with them. Throws [BundleException].
 */
internal class BundleRules(json: JSONObject) {
    private val manifest = Field(json, "")
    private val pipeline = manifest["pipeline"]

    /** Paths of all files, and of the folders that they lie in. */
    private val listed: Set<String> by lazy {
        manifest["files"].keys().flatMap { path ->
            generateSequence(path) { if ('/' in it) it.substringBeforeLast('/') else null }.toList()
        }.toSet()
    }

    fun check() {
        checkPipeline()
        checkTokenizer(pipeline["tokenizer"])
        pipeline["tokenizer_2"].ifThere(::checkTokenizer)
        pipeline["denoiser"].ifThere(::checkDenoiser)
        pipeline["few_steps"].ifThere(::checkFewSteps)
        checkScheduler(pipeline["scheduler"])
        pipeline["advice"].ifThere(::checkAdvice)
        pipeline["preview"].ifThere(::checkPreview)
        checkFiles(manifest["files"])
        val components = manifest["components"]
        components.require(components.keys().isNotEmpty(), "is empty")
        for (name in components.keys()) checkComponent(components[name])
    }

    private fun checkPipeline() {
        val predicts = pipeline["prediction_type"]
        predicts.require(predicts.text() in PREDICTIONS, "is not one of ${PREDICTIONS.joinToString()}")
        val channels = pipeline["latent_channels"].whole(1..Limits.LATENT_CHANNELS)
        val scale = pipeline["vae_scale_factor"].whole(1..Limits.VAE_SCALE_FACTOR)
        val batch = pipeline["batch"].whole(1..Limits.BATCH)
        val size = pair(pipeline["size"], Limits.PIXELS)
        val latent = pair(pipeline["latent_size"], Limits.LATENT_PIXELS)
        val isMultiple = size == latent.map { it * scale }
        pipeline["size"].require(isMultiple, "is not pipeline.latent_size times pipeline.vae_scale_factor")
        val elements = latent.fold(batch.toLong() * channels) { product, side -> product * side }
        pipeline["latent_size"].require(elements <= Limits.ELEMENTS, "asks for more than ${Limits.ELEMENTS} numbers")
        pipeline["scaling_factor"].require(pipeline["scaling_factor"].factor() != 0.0, "is 0")
        pipeline["shift_factor"].ifThere(Field::factor)
    }

    private fun pair(field: Field, most: Int): List<Int> {
        val sides = field.list().map { it.whole(1..most) }
        field.require(sides.size == 2, "is not a height and a width")
        return sides
    }

    private fun checkTokenizer(tokenizer: Field) {
        for (key in listOf("bos_token_id", "eos_token_id", "pad_token_id")) tokenizer[key].whole(0..Limits.TOKEN_ID)
        val length = tokenizer["max_tokens"].whole(2..Limits.MAX_TOKENS)
        val whole = pipeline["max_tokens"]
        whole.require(whole.whole(2..Limits.MAX_TOKENS) == length, "is not pipeline.tokenizer.max_tokens")
        val added = tokenizer["added_tokens"].ifThere(Field::list) ?: return
        tokenizer["added_tokens"].require(added.size <= Limits.ADDED_TOKENS, "are more than ${Limits.ADDED_TOKENS}")
        for (word in added) {
            checkName(word["content"])
            word["id"].whole(0..Limits.TOKEN_ID)
            for (key in listOf("lstrip", "rstrip", "single_word", "normalized")) word[key].flag()
        }
    }

    private fun checkDenoiser(denoiser: Field) {
        checkName(denoiser["component"])
        denoiser["guidance"].require(denoiser["guidance"].text() in GUIDANCES, "is not one of ${GUIDANCES.joinToString()}")
        val conditions = denoiser["conditions"]
        conditions.require(conditions.keys().isNotEmpty(), "is empty")
        for (name in conditions.keys()) checkCondition(conditions[name])
    }

    private fun checkFewSteps(fewSteps: Field) {
        fewSteps.require(fewSteps.list().size in 1..Limits.FEW_STEPS, "are not 1 to ${Limits.FEW_STEPS}")
        val steps = fewSteps.list().map { it["steps"].whole(1..Limits.STEPS) }
        fewSteps.require(steps.zipWithNext().all { (fewer, more) -> fewer < more }, "do not have more steps one after the other")
        for (few in fewSteps.list()) checkDenoiser(few["denoiser"])
    }

    private fun checkCondition(condition: Field) {
        when (condition["kind"].text()) {
            DenoiserFacts.SIZE -> return
            DenoiserFacts.GUIDANCE -> condition["width"].whole(2..Limits.WIDTH)
            DenoiserFacts.TEXT -> {
                val outputs = condition["outputs"].list()
                condition["outputs"].require(outputs.size in 1..TOKENIZERS.size, "are not 1 to ${TOKENIZERS.size}")
                for (output in outputs) {
                    val encoder = output["component"].text()
                    val tokenizer = TOKENIZERS[encoder] ?: output["component"].refuse("is not one of ${TOKENIZERS.keys.joinToString()}")
                    checkName(output["output"])
                    pipeline[tokenizer].ifThere { true } ?: condition.refuse("asks for $encoder without pipeline.$tokenizer")
                }
            }
            else -> condition["kind"].refuse("is not one that this app knows")
        }
    }

    private fun checkName(name: Field) {
        val characters = name.text().let { it.codePointCount(0, it.length) }
        name.require(characters in 1..Limits.WORD_CHARACTERS, "is too long, or empty")
    }

    private fun checkScheduler(scheduler: Field) {
        for (key in scheduler.keys()) scheduler[key].checkNumbers()
        scheduler["_class_name"].ifThere { it.text() }
        scheduler["num_train_timesteps"].ifThere { it.whole(1..Limits.TRAIN_TIMESTEPS) }
    }

    private fun checkAdvice(advice: Field) {
        advice["steps"].ifThere { it.whole(1..Limits.STEPS) }
        advice["guidance"].ifThere { it.number(0.0, Limits.GUIDANCE) }
        advice["scheduler"].ifThere { it.text() }
        advice["prompts"].ifThere { prompts -> prompts.list().forEach { it.text() } }
    }

    private fun checkPreview(preview: Field) {
        val rows = preview["weights"].list().map { row -> row.list().map { it.factor() } }
        val fits = rows.size == pipeline["latent_channels"].whole(1..Limits.LATENT_CHANNELS) && rows.all { it.size == 3 }
        preview["weights"].require(fits, "is not three numbers for each channel of the latent")
        preview["bias"].require(preview["bias"].list().map { it.factor() }.size == 3, "is not three numbers")
    }

    private fun checkComponent(component: Field) {
        val inputs = checkTensors(component["inputs"])
        checkTensors(component["outputs"])
        val files = component["files"]
        files.require(files.list().isNotEmpty(), "is empty")
        val known = HashMap<String, Set<String>>() // for each target what its next file may read
        for (file in files.list()) {
            val path = file["path"].text()
            checkPath(path, files)
            files.require(path in listed, "has $path, which is not among the manifest's files")
            val target = file["target"].text()
            val names = known[target] ?: inputs
            for (name in file["inputs"].list()) files.require(name.text() in names, "has $path, which reads what nothing gives")
            known[target] = names + file["outputs"].list().map { it.text() }
            file["weight_bytes"].ifThere { it.whole(0..Limits.FILE_BYTES) }
        }
    }

    private fun checkTensors(tensors: Field): Set<String> {
        val names = tensors.list().map { tensor ->
            val lengths = tensor["shape"].list().map { it.whole(1..Limits.ELEMENTS) }
            tensor["shape"].require(lengths.size in 1..Limits.RANK, "has not 1 to ${Limits.RANK} lengths")
            lengths.fold(1L) { product, length ->
                (product * length).also { tensors.require(it <= Limits.ELEMENTS, "asks for more than ${Limits.ELEMENTS} numbers") }
            }
            tensor["dtype"].require(tensor["dtype"].text() in TYPES, "is not one of ${TYPES.joinToString()}")
            tensor["name"].text().also { tensors.require(it.isNotEmpty(), "has one without a name") }
        }
        tensors.require(names.toSet().size == names.size, "has two of one name")
        return names.toSet()
    }

    private fun checkFiles(files: Field) {
        files.require(files.keys().size in 1..Limits.FILES, "is empty, or holds more than ${Limits.FILES}")
        for (path in files.keys()) {
            val file = files[path]
            checkPath(path, file)
            file["sha256"].require(HASH.matches(file["sha256"].text()), "is not 64 hex digits")
            file["bytes"].whole(0..Limits.FILE_BYTES)
        }
        for (name in listOf("vocab.json", "merges.txt")) files.require(name in listed, "lacks $name")
    }

    /** A path must lead to something inside the folder. */
    private fun checkPath(path: String, field: Field) {
        val parts = path.split('/')
        field.require(parts.size <= Limits.NESTING, "lies in more than ${Limits.NESTING} folders")
        val isInside = parts.all { it.isNotEmpty() && it != "." && it != ".." } && path.none { it == '\\' || it == '\u0000' }
        field.require(isInside, "leads out of the bundle")
    }

    private companion object {
        val GUIDANCES = listOf(DenoiserFacts.COMBINED, DenoiserFacts.TOLD, DenoiserFacts.UNGUIDED)
        val TOKENIZERS = mapOf("text_encoder" to "tokenizer", "text_encoder_2" to "tokenizer_2")
        val PREDICTIONS = listOf("epsilon", "v_prediction", "sample")
        val TYPES = listOf("float16", "float32", "int32")
        val HASH = Regex("[0-9a-fA-F]{64}")
    }
}
