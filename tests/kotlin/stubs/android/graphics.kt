// The part of Android that examples/android uses, by hand: signatures without bodies.
package android.graphics

class Bitmap {
    enum class Config { ARGB_8888 }

    companion object {
        @JvmStatic fun createBitmap(colors: IntArray, width: Int, height: Int, config: Config): Bitmap = TODO()
    }
}
