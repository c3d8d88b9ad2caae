// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import java.io.File
import java.text.Normalizer
import org.json.JSONObject

/** Token ids `(length)` of a prompt; `cut` is the text that did not fit, empty if all did. */
class EncodedPrompt(val ids: IntArray, val cut: String)

/**
 * CLIP's byte-pair tokenizer.
 *
 * Words are lower-cased, spelled as bytes, and joined pair by pair in the order of `merges.txt`; the
 * last piece of a word carries the mark `</w>`.
 */
class ClipTokenizer(
    private val vocabulary: Map<String, Int>,
    private val ranks: Map<Pair<String, String>, Int>,
    private val facts: TokenizerFacts
) {
    private val unknown = vocabulary[END_OF_TEXT]
        ?: throw BundleException("vocab.json lacks $END_OF_TEXT; convert again")
    private val spelling: Map<Int, String> by lazy { vocabulary.entries.associate { it.value to it.key } }

    /** The start token, the prompt, the end token, padding; what is too long is cut. */
    fun encode(prompt: String): EncodedPrompt {
        val body = words(prompt).flatMap { idsOf(it) }.toList()
        val kept = body.take(facts.length - 2)
        val ids = IntArray(facts.length) { facts.padding }
        ids[0] = facts.start
        kept.forEachIndexed { index, id -> ids[index + 1] = id }
        ids[kept.size + 1] = facts.end
        return EncodedPrompt(ids, text(body.drop(kept.size)))
    }

    private fun words(prompt: String): Sequence<String> {
        val composed = Normalizer.normalize(prompt, Normalizer.Form.NFC)
        return WORD.findAll(lowerCase(composed)).map { it.value }
    }

    private fun idsOf(word: String): Sequence<Int> {
        if (word == START_OF_TEXT || word == END_OF_TEXT) return sequenceOf(vocabulary[word] ?: unknown)
        return pieces(word).asSequence().map { vocabulary[it] ?: unknown }
    }

    /** A word's bytes, joined by the merges: the earliest in the list first, from the left. */
    private fun pieces(word: String): List<String> {
        val pieces = word.toByteArray(Charsets.UTF_8).mapTo(ArrayList()) { LETTERS[it.toInt() and 0xFF].toString() }
        pieces[pieces.size - 1] = pieces.last() + WORD_END
        while (pieces.size > 1) {
            var best = -1
            var lowest = Int.MAX_VALUE
            for (index in 0 until pieces.size - 1) {
                val rank = ranks[Pair(pieces[index], pieces[index + 1])] ?: continue
                if (rank < lowest) {
                    lowest = rank
                    best = index
                }
            }
            if (best < 0) break
            pieces[best] = pieces[best] + pieces.removeAt(best + 1)
        }
        return pieces
    }

    private fun text(ids: List<Int>): String {
        val spelled = ids.joinToString("") { spelling[it] ?: "" }.replace(WORD_END, " ")
        val bytes = spelled.map { BYTES[it] ?: SPACE }.toByteArray()
        return String(bytes, Charsets.UTF_8).trim()
    }

    companion object {
        private const val START_OF_TEXT = "<|startoftext|>"
        private const val END_OF_TEXT = "<|endoftext|>"
        private const val WORD_END = "</w>"
        private const val SPACE: Byte = 32

        // White space is spelled out: what \s means differs between Android's and a desktop's engine.
        private const val BLANK = "\\p{Z}\\u0009-\\u000D\\u0085"
        private val WORD = Regex(
            "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|\\p{L}+|\\p{N}|[^$BLANK\\p{L}\\p{N}]+"
        )

        /** The character that stands for each byte: printable ones for themselves, others from U+0100. */
        private val LETTERS: CharArray = run {
            var next = 0x100
            CharArray(256) { byte ->
                val printable = byte in 0x21..0x7E || byte in 0xA1..0xAC || byte in 0xAE..0xFF
                (if (printable) byte else next++).toChar()
            }
        }
        private val BYTES: Map<Char, Byte> = LETTERS.withIndex().associate { it.value to it.index.toByte() }

        /** Read `vocab.json` and `merges.txt` in a bundle's folder. */
        fun read(folder: File, facts: TokenizerFacts): ClipTokenizer {
            val vocabulary = HashMap<String, Int>()
            val json = JSONObject(required(folder, "vocab.json").readText())
            for (token in json.keys().asSequence().map { it.toString() }) vocabulary[token] = json.getInt(token)
            val ranks = HashMap<Pair<String, String>, Int>()
            required(folder, "merges.txt").forEachLine { line ->
                val pair = line.split(' ')
                if (pair.size == 2 && !line.startsWith("#version")) ranks[Pair(pair[0], pair[1])] = ranks.size
            }
            return ClipTokenizer(vocabulary, ranks, facts)
        }

        private fun required(folder: File, name: String): File {
            val file = File(folder, name)
            if (!file.isFile) throw BundleException("$file: missing; copy the whole bundle")
            return file
        }

        /** Lower case letter by letter, so that neither the locale nor a letter's neighbours matter. */
        private fun lowerCase(text: String): String {
            val lower = StringBuilder(text.length)
            var index = 0
            while (index < text.length) {
                val letter = text.codePointAt(index)
                lower.appendCodePoint(Character.toLowerCase(letter))
                if (letter == DOTTED_I) lower.appendCodePoint(DOT_ABOVE)
                index += Character.charCount(letter)
            }
            return lower.toString()
        }

        private const val DOTTED_I = 0x130 // the one letter whose lower case is two characters
        private const val DOT_ABOVE = 0x307
    }
}
