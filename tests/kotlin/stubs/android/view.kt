// The part of Android that examples/android uses, by hand: signatures without bodies.
package android.view

import android.content.Context

open class View(context: Context) {
    var isEnabled: Boolean = true
    var fitsSystemWindows: Boolean = false

    fun setOnClickListener(listener: (View) -> Unit): Unit = TODO()
}
