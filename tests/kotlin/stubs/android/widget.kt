// The part of Android that examples/android uses, by hand: signatures without bodies.
package android.widget

import android.content.Context
import android.graphics.Bitmap
import android.view.View

open class TextView(context: Context) : View(context) {
    var text: CharSequence? = null
    var hint: CharSequence? = null
}

open class EditText(context: Context) : TextView(context)

open class Button(context: Context) : TextView(context)

class CheckBox(context: Context) : Button(context) {
    var isChecked: Boolean = false
}

class ImageView(context: Context) : View(context) {
    var adjustViewBounds: Boolean = false

    fun setImageBitmap(bitmap: Bitmap): Unit = TODO()
}

class ProgressBar(context: Context, attributes: Any?, style: Int) : View(context) {
    var progress: Int = 0
    var max: Int = 100
}

class LinearLayout(context: Context) : View(context) {
    var orientation: Int = VERTICAL

    fun addView(view: View): Unit = TODO()

    companion object {
        const val VERTICAL = 1
    }
}
