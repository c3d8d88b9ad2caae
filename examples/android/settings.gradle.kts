// Not compiled here: no Android toolchain on the machines that coreml-sd is built on.
pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}
dependencyResolutionManagement {
    repositories {
        google()
        mavenCentral()
    }
}
rootProject.name = "coreml-sd-sample"
include(":app")
