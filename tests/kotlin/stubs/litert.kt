// The part of LiteRT's Kotlin API (2.x) that examples/android uses, by hand: signatures without bodies.
package com.google.ai.edge.litert

enum class Accelerator { NONE, CPU, GPU, NPU }

class LiteRtException(message: String) : Exception(message)

abstract class JniHandle : AutoCloseable {
    final override fun close() = TODO()
}

class Environment private constructor() : JniHandle() {
    enum class Option { CompilerPluginLibraryDir, DispatchLibraryDir }

    companion object {
        @JvmStatic fun create(options: Map<Option, String> = mapOf()): Environment = TODO()
    }
}

class TensorBuffer internal constructor() : JniHandle() {
    fun writeInt(data: IntArray): Unit = TODO()

    fun writeFloat(data: FloatArray): Unit = TODO()

    fun readFloat(): FloatArray = TODO()
}

class CompiledModel private constructor() : JniHandle() {
    data class GpuOptions(val constantTensorSharing: Boolean? = null, val precision: Precision? = null) {
        enum class Precision { DEFAULT, FP16, FP32 }
    }

    class Options(internal val accelerators: Set<Accelerator>) {
        constructor(vararg accelerators: Accelerator) : this(setOf(*accelerators))

        var gpuOptions: GpuOptions? = null
    }

    fun createInputBuffer(inputName: String, signature: String? = null): TensorBuffer = TODO()

    fun createOutputBuffer(outputName: String, signature: String? = null): TensorBuffer = TODO()

    fun run(inputs: List<TensorBuffer>, outputs: List<TensorBuffer>, signature: String): Unit = TODO()

    fun run(inputs: Map<String, TensorBuffer>, outputs: Map<String, TensorBuffer>, signature: String? = null): Unit = TODO()

    companion object {
        @JvmStatic
        fun create(filePath: String, options: Options = Options(Accelerator.CPU), optionalEnv: Environment? = null): CompiledModel = TODO()
    }
}
