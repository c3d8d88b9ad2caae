// The part of Android that examples/android uses, by hand: signatures without bodies.
package android

class R {
    class attr {
        companion object {
            const val progressBarStyleHorizontal = 0
        }
    }
}
