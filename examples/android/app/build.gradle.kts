// Not compiled here: no Android toolchain on the machines that coreml-sd is built on.
plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "coremlsd.sample"
    compileSdk = 36

    defaultConfig {
        applicationId = "coremlsd.sample"
        minSdk = 26
        targetSdk = 36
        versionCode = 1
        versionName = "1"
        ndk { abiFilters += "arm64-v8a" }
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
    sourceSets["main"].java.srcDir("src/main/kotlin")
}

kotlin { jvmToolchain(17) }

dependencies {
    // The runtime and its GPU accelerator: the version that coreml-sd's own extra "android" runs.
    implementation("com.google.ai.edge.litert:litert:2.3.0")
    implementation("com.google.ai.edge.litert:litert-gpu:2.3.0")
}
