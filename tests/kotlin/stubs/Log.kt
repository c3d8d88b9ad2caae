// The one class of Android that LiteRtNetwork.kt uses.
package android.util

object Log {
    @JvmStatic fun w(tag: String, message: String, error: Throwable): Int = TODO()
}
