// The part of Android that examples/android uses, by hand: signatures without bodies.
package android.content

import java.io.File

abstract class Context {
    fun getExternalFilesDir(type: String?): File? = TODO()
}
