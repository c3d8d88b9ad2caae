// Not compiled here: no Android toolchain on the machines that coreml-sd is built on.
plugins {
    id("com.android.application") version "8.13.2" apply false
    id("org.jetbrains.kotlin.android") version "2.2.21" apply false
}
