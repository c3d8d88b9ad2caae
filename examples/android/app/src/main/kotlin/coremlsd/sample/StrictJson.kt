// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import org.json.JSONException
import org.json.JSONObject

/**
 * JSON as every reader understands it alike. Android's own takes what is nearly JSON, keys that stand twice, and
 * numbers that it cannot hold.
 */
internal class StrictJson private constructor(private val text: String) {
    private var at = 0

    private fun check() {
        value(0)
        skipSpace()
        if (at < text.length) malformed()
    }

    private fun value(depth: Int) {
        skipSpace()
        when (text.getOrNull(at)) {
            '{' -> table(depth)
            '[' -> list(depth)
            '"' -> string()
            't' -> word("true")
            'f' -> word("false")
            'n' -> word("null")
            else -> number()
        }
    }

    private fun table(depth: Int) {
        enter(depth)
        val keys = HashSet<String>()
        if (take('}')) return
        do {
            skipSpace()
            val key = string()
            if (!keys.add(key)) throw JSONException("the key \"$key\" stands twice in one table")
            if (!take(':')) malformed()
            value(depth + 1)
        } while (take(','))
        if (!take('}')) malformed()
    }

    private fun list(depth: Int) {
        enter(depth)
        if (take(']')) return
        do value(depth + 1) while (take(','))
        if (!take(']')) malformed()
    }

    private fun enter(depth: Int) {
        if (depth > Limits.NESTING) throw JSONException("nested deeper than ${Limits.NESTING}")
        at++
    }

    private fun string(): String {
        val begin = at
        if (text.getOrNull(at++) != '"') malformed()
        while (text.getOrNull(at) != '"') {
            val letter = text.getOrNull(at) ?: malformed()
            if (letter < ' ') malformed()
            if (letter == '\\') ESCAPE.match() else at++
        }
        val written = text.substring(begin, ++at)
        return if ('\\' in written) JSONObject("{\"x\":$written}").getString("x") else written.drop(1).dropLast(1)
    }

    private fun number() {
        val written = NUMBER.match()
        val isWhole = written.none { it in ".eE" }
        if (isWhole && written.toLongOrNull() == null) throw JSONException("${written.take(40)} is beyond 64 bits")
        if (written.toDouble().isInfinite()) throw JSONException("${written.take(40)} is beyond all numbers")
    }

    private fun word(word: String) {
        if (!text.startsWith(word, at)) malformed()
        at += word.length
    }

    /** What the pattern finds here; the place moves behind it. */
    private fun Regex.match(): String {
        val matcher = toPattern().matcher(text).region(at, text.length)
        if (!matcher.lookingAt()) malformed()
        at = matcher.end()
        return matcher.group()
    }

    private fun take(letter: Char): Boolean {
        skipSpace()
        if (text.getOrNull(at) != letter) return false
        at++
        return true
    }

    private fun skipSpace() {
        while (at < text.length && text[at] in " \t\n\r") at++
    }

    private fun malformed(): Nothing = throw JSONException("not JSON, at character $at")

    companion object {
        private val ESCAPE = Regex("\\\\(?:[\"\\\\/bfnrt]|u[0-9a-fA-F]{4})")
        private val NUMBER = Regex("-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

        /** The table that a text holds. Throws [JSONException]. */
        fun table(text: String): JSONObject {
            StrictJson(text).check()
            return JSONObject(text)
        }
    }
}
