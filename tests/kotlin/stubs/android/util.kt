// The part of Android that examples/android uses, by hand: signatures without bodies.
package android.util

object Log {
    @JvmStatic fun w(tag: String, message: String, error: Throwable): Int = TODO()
}
