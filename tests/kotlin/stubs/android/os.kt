// The part of Android that examples/android uses, by hand: signatures without bodies.
package android.os

class Bundle
