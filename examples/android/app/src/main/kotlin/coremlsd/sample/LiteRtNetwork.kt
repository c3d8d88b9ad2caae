// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import android.util.Log
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.Environment
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.TensorBuffer

/** A .tflite file on LiteRT, with one buffer for each named tensor, made once and used at every step. */
class LiteRtNetwork private constructor(
    private val file: NetworkFile,
    private val model: CompiledModel,
    override val accelerator: String
) : Network {
    private val inputs: Map<String, TensorBuffer>
    private val outputs: Map<String, TensorBuffer>

    init {
        try {
            inputs = file.inputs.associateWith { model.createInputBuffer(it, file.signature) }
            outputs = file.outputs.associateWith { model.createOutputBuffer(it, file.signature) }
        } catch (error: LiteRtException) {
            model.close()
            throw error
        }
    }

    override fun write(name: String, values: FloatArray) = inputs.getValue(name).writeFloat(values)

    override fun write(name: String, values: IntArray) = inputs.getValue(name).writeInt(values)

    override fun run() = model.run(inputs, outputs, file.signature)

    override fun read(name: String): FloatArray = outputs.getValue(name).readFloat()

    override fun close() {
        (inputs.values + outputs.values).forEach { it.close() }
        model.close()
    }

    companion object {
        private const val TAG = "coreml-sd"

        /**
         * Open a file on the GPU, or on the CPU where the GPU does not take it.
         *
         * `float32` makes the GPU compute in 32 bits: slower, and the cure where 16 bits overflow.
         * GPU alone is asked for, not GPU and CPU: a file that is split between the two is slow, and
         * the exception says which operation was refused.
         */
        fun open(file: NetworkFile, environment: Environment, float32: Boolean): LiteRtNetwork {
            val path = file.file.absolutePath
            val gpu = CompiledModel.Options(Accelerator.GPU)
            if (float32) {
                gpu.gpuOptions = CompiledModel.GpuOptions(precision = CompiledModel.GpuOptions.Precision.FP32)
            }
            return try {
                LiteRtNetwork(file, CompiledModel.create(path, gpu, environment), "GPU")
            } catch (error: LiteRtException) {
                Log.w(TAG, "$path does not run on the GPU, the CPU takes it", error)
                val cpu = CompiledModel.Options(Accelerator.CPU)
                LiteRtNetwork(file, CompiledModel.create(path, cpu, environment), "CPU")
            }
        }
    }
}
