// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import java.io.Closeable

/** One network with named tensors: write the inputs, run, read the outputs. */
interface Network : Closeable {
    /** Where it runs, to be shown to the user. */
    val accelerator: String

    fun write(name: String, values: FloatArray)

    fun write(name: String, values: IntArray)

    fun run()

    fun read(name: String): FloatArray
}
