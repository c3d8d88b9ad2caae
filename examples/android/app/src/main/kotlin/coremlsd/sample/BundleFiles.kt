// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import java.io.File
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.security.MessageDigest
import org.json.JSONObject

/** The files of a bundle, each regular, inside the folder, and as the manifest says. Throws [BundleException]. */
internal class BundleFiles(private val folder: File) {
    /** Compare the files that this app uses: networks, the vocabulary. Files for other platforms may be missing. */
    fun check(listed: JSONObject, used: Set<String>) {
        val paths = listed.keys().asSequence().map { it.toString() }.toList()
        for (path in paths) checkInside(path)
        for (path in used) checkContent(path, listed.getJSONObject(path))
        val packages = paths.mapNotNull { path -> path.substringBefore('/').takeIf { '/' in path } }
        for (name in packages.toSet()) checkNothingElse(name, paths.toSet())
    }

    /** A text of at most the size that texts may have. */
    fun bytes(name: String): ByteArray {
        checkInside(name)
        val file = regular(name)
        if (file.length() > Limits.TEXT_BYTES) throw BundleException("$file: larger than ${Limits.TEXT_BYTES shr 20} MB; convert again")
        return file.readBytes()
    }

    fun text(name: String): String = try {
        Charsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes(name))).toString()
    } catch (error: CharacterCodingException) {
        throw BundleException("$name is not UTF-8; convert again")
    }

    /** A pipe or a device is refused before it is opened: reading it may never end. */
    private fun regular(path: String): File {
        val file = File(folder, path)
        if (!file.exists()) throw BundleException("$file: missing; copy the whole bundle")
        if (!file.isFile) throw BundleException("$file: not a regular file; copy the whole bundle")
        return file
    }

    private fun checkInside(path: String) {
        val root = folder.canonicalPath
        if (!File(root, path).canonicalPath.startsWith(root + File.separator)) {
            throw BundleException("$path is a link out of the bundle; copy the whole bundle")
        }
    }

    private fun checkContent(path: String, facts: JSONObject) {
        val file = regular(path)
        val isSame = file.length() == facts.getLong("bytes") && sha256(file).equals(facts.getString("sha256"), ignoreCase = true)
        if (!isSame) throw BundleException("$file: changed since the conversion; copy the whole bundle")
    }

    private fun checkNothingElse(name: String, listed: Set<String>) {
        for (file in File(folder, name).walk().filter { it.isFile || !it.isDirectory }) {
            val path = file.relativeTo(folder).path.replace(File.separatorChar, '/')
            if (file.exists() && path !in listed) throw BundleException("$path: the manifest does not list it; remove it")
        }
    }

    companion object {
        private const val SEAL = "manifest_sha256"

        fun sha256(file: File): String {
            val digest = MessageDigest.getInstance("SHA-256")
            file.inputStream().use { stream ->
                val piece = ByteArray(1 shl 16)
                while (true) {
                    val count = stream.read(piece)
                    if (count < 0) break
                    digest.update(piece, 0, count)
                }
            }
            return hex(digest)
        }

        /** Whether the manifest has the hash that it says of itself, taken with 64 zeros in its place. */
        fun isIntact(manifest: String, json: JSONObject): Boolean {
            if (!json.has(SEAL)) return true // made by hand
            val seal = json.optString(SEAL)
            val unsealed = manifest.replaceFirst("\"$SEAL\": \"$seal\"", "\"$SEAL\": \"${"0".repeat(64)}\"")
            return hex(MessageDigest.getInstance("SHA-256").apply { update(unsealed.toByteArray()) }) == seal
        }

        private fun hex(digest: MessageDigest) = digest.digest().joinToString("") { "%02x".format(it) }
    }
}
