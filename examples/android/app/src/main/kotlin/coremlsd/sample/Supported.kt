// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

/** Which scheduler can honour which config: the rule of `coreml_sd/schedulers/supported.py`. */
internal class Supported(private val name: String, private val config: SchedulerConfig) {
    private class Refusal(message: String) : Exception(message)

    private val isDpm = name.startsWith("dpm++")
    private val spreads = isDpm || name == "euler"

    /** Throws [BundleException], which names the config's key. */
    fun check() {
        try {
            checkNoise()
            checkTypes()
            checkPrediction()
            checkBetas()
            checkTimesteps()
            if (spreads) checkSigmas()
            checkSteps()
        } catch (refusal: Refusal) {
            throw BundleException("scheduler $name: the model's ${refusal.message}")
        }
    }

    /** EDM models were trained without betas; a schedule with betas would invent some. */
    private fun checkNoise() {
        val told = "is of an EDM model, for which there is no scheduler"
        val remedy = "convert a model that was trained with betas or flow matching"
        if (config.has("sigma_data")) refuse("sigma_data", told, remedy)
        if (config.word("_class_name")?.startsWith("EDM") == true) refuse("_class_name", told, remedy)
    }

    private fun checkTypes() {
        for ((key, type) in READ.getValue(if (isDpm) "dpm++" else name)) {
            if (name == "dpm++-karras" && key == "use_karras_sigmas") continue // the name says it
            if (config.isNull(key) && type.nullable) continue
            val fits = !config.has(key) || type.fits(config, key)
            if (config.isNull(key) || !fits) refuse(key, if (fits) "is null" else "is of another type", correct(key))
        }
    }

    private fun checkPrediction() {
        val key = "prediction_type"
        val isFlow = config.word("_class_name")?.startsWith("FlowMatch") == true
        val predicts = config.word(key) ?: if (isFlow) "flow_prediction" else "epsilon"
        if (predicts == "flow_prediction") refuse(key, "is $predicts", "choose flow-match-euler, which this app lacks")
        val allowed = listOf("epsilon", "v_prediction", "sample")
        word(key, predicts, if (name == "pndm") allowed.take(2) else allowed)
    }

    private fun checkBetas() {
        val count = config.trainSteps
        if (count < 2) refuse("num_train_timesteps", "is $count", correct("num_train_timesteps"))
        val trained = config.numbers("trained_betas")
        if (trained != null) {
            val key = "trained_betas"
            if (trained.size != count) refuse(key, "are not as many as its $count timesteps", correct(key))
            if (!trained.all(::isBeta)) refuse(key, "do not lie between 0 and 1", correct(key))
            return
        }
        val schedule = config.word("beta_schedule") ?: "linear"
        word("beta_schedule", schedule, listOf("linear", "scaled_linear", "squaredcos_cap_v2"))
        if (schedule == "squaredcos_cap_v2") return
        for (key in listOf("beta_start", "beta_end")) {
            if (config.number(key)?.let(::isBeta) == false) refuse(key, "does not lie between 0 and 1", correct(key))
        }
    }

    private fun checkTimesteps() {
        val noiseAlone = config.flag("rescale_betas_zero_snr") == true
        if (name == "ddim" && noiseAlone && config.prediction == "epsilon") {
            refuse("rescale_betas_zero_snr", "ends in noise alone, and its network predicts noise")
        }
        word("timestep_spacing", config.word("timestep_spacing"), listOf("linspace", "leading", "trailing"))
        val offset = config.stepsOffset
        if (offset !in 0 until config.trainSteps) refuse("steps_offset", "is $offset", correct("steps_offset"))
    }

    private fun checkSigmas() {
        word("final_sigmas_type", config.word("final_sigmas_type"), listOf("zero", "sigma_min"))
        unsupported("use_beta_sigmas")
        if (isDpm) unsupported("use_flow_sigmas")
        val karras = name == "dpm++-karras" || config.flag("use_karras_sigmas") == true
        val exponential = config.flag("use_exponential_sigmas") == true
        if (karras && exponential) refuse("use_exponential_sigmas", "excludes Karras sigmas")
        if (isDpm && config.has("lambda_min_clipped")) refuse("lambda_min_clipped", "is not supported")
        for (key in listOf("sigma_min", "sigma_max")) {
            val bound = config.number(key)
            if ((karras || exponential) && bound != null && bound <= 0) refuse(key, "is $bound, not above 0", correct(key))
        }
    }

    /** What one scheduler reads and the others do not. */
    private fun checkSteps() {
        if (name == "euler") {
            word("interpolation_type", config.word("interpolation_type"), listOf("linear", "log_linear"))
            word("timestep_type", config.word("timestep_type"), listOf("discrete", "continuous"))
        }
        if (isDpm || name == "ddim") unsupported("thresholding")
        if (isDpm) {
            val variance = config.word("variance_type")
            if (variance?.startsWith("learned") == true) refuse("variance_type", "is $variance")
            word("solver_type", config.word("solver_type"), listOf("midpoint", "heun", "logrho", "bh1", "bh2"))
            if (config.word("solver_type") == "heun" && staysAtTheEnd()) {
                refuse("solver_type", "is heun, which cannot end at the sigma that it comes from")
            }
        }
        val bound = config.number("clip_sample_range")
        if (name == "ddim" && config.flag("clip_sample") == true && bound != null && bound <= 0) {
            refuse("clip_sample_range", "is $bound, not above 0", correct("clip_sample_range"))
        }
    }

    private fun staysAtTheEnd(): Boolean {
        val spreads = name == "dpm++-karras" ||
            listOf("use_karras_sigmas", "use_exponential_sigmas", "use_lu_lambdas").any { config.flag(it) == true }
        return spreads && config.word("final_sigmas_type") == "sigma_min" && config.flag("euler_at_final") != true
    }

    private fun word(key: String, word: String?, allowed: List<String>) {
        if (word != null && word !in allowed) refuse(key, "is $word, supported are ${allowed.joinToString()}")
    }

    private fun unsupported(key: String) {
        if (config.flag(key) == true) refuse(key, "is not supported")
    }

    private fun isBeta(value: Double) = value > 0 && value < 1

    private fun correct(key: String) = "correct $key in the scheduler config"

    private fun refuse(key: String, problem: String, remedy: String = "choose another scheduler"): Nothing =
        throw Refusal("$key $problem; $remedy")

    private enum class Type(val nullable: Boolean = false, val fits: (SchedulerConfig, String) -> Boolean) {
        FLAG(fits = { config, key -> config.flag(key) != null }),
        WHOLE(fits = { config, key -> config.whole(key) != null }),
        NUMBER(fits = { config, key -> config.number(key) != null }),
        WORD(fits = { config, key -> config.word(key) != null }),
        NO_NUMBER(nullable = true, fits = { config, key -> config.number(key) != null }),
        NO_NUMBERS(nullable = true, fits = { config, key -> config.numbers(key) != null }),
        NO_WORD(nullable = true, fits = { config, key -> config.word(key) != null })
    }

    private companion object {
        val COMMON = linkedMapOf(
            "num_train_timesteps" to Type.WHOLE, "beta_start" to Type.NUMBER, "beta_end" to Type.NUMBER,
            "beta_schedule" to Type.WORD, "trained_betas" to Type.NO_NUMBERS, "prediction_type" to Type.WORD,
            "timestep_spacing" to Type.WORD, "steps_offset" to Type.WHOLE
        )
        val SIGMAS = linkedMapOf(
            "use_karras_sigmas" to Type.FLAG, "use_exponential_sigmas" to Type.FLAG, "use_beta_sigmas" to Type.FLAG,
            "sigma_min" to Type.NO_NUMBER, "sigma_max" to Type.NO_NUMBER, "final_sigmas_type" to Type.WORD,
            "rescale_betas_zero_snr" to Type.FLAG
        )

        /** The settings that a scheduler reads, in the order in which a wrong one is told. */
        val READ: Map<String, Map<String, Type>> = mapOf(
            "dpm++" to COMMON + SIGMAS + linkedMapOf(
                "use_lu_lambdas" to Type.FLAG, "use_flow_sigmas" to Type.FLAG, "lambda_min_clipped" to Type.NUMBER,
                "thresholding" to Type.FLAG, "variance_type" to Type.NO_WORD, "solver_type" to Type.WORD,
                "lower_order_final" to Type.FLAG, "euler_at_final" to Type.FLAG
            ),
            "ddim" to COMMON + linkedMapOf(
                "rescale_betas_zero_snr" to Type.FLAG, "set_alpha_to_one" to Type.FLAG, "thresholding" to Type.FLAG,
                "clip_sample" to Type.FLAG, "clip_sample_range" to Type.NUMBER
            ),
            "pndm" to COMMON + linkedMapOf("set_alpha_to_one" to Type.FLAG),
            "euler" to COMMON + SIGMAS + linkedMapOf("interpolation_type" to Type.WORD, "timestep_type" to Type.WORD)
        )
    }
}
