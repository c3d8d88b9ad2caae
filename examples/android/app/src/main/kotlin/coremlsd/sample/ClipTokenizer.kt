// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

import java.io.File
import java.text.Normalizer
import org.json.JSONException

/**
 * Token ids `(length)` of a prompt; `cut` is the text that did not fit, empty if all did.
 *
 * `cut` begins with the whole of the word that the cut goes through. A word is what stands between spaces; in Chinese
 * and Japanese any character begins one.
 */
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
    private val added = AddedTokens(facts.added ?: plainTokens(), ::normalize)

    /** The start token, the prompt, the end token, padding; what is too long is cut. */
    fun encode(prompt: String): EncodedPrompt {
        val body = body(prompt)
        val kept = body.take(facts.length - 2)
        val ids = IntArray(facts.length) { facts.padding }
        ids[0] = facts.start
        kept.forEachIndexed { index, id -> ids[index + 1] = id }
        ids[kept.size + 1] = facts.end
        return EncodedPrompt(ids, if (body.size > kept.size) cut(prompt, kept.size) else "")
    }

    /** Where the facts list none: both marks, and the word of the padding. */
    private fun plainTokens(): List<AddedToken> {
        val padding = vocabulary.entries.firstOrNull { it.value == facts.padding }?.key ?: END_OF_TEXT
        return listOf(START_OF_TEXT, END_OF_TEXT, padding).distinct().map { AddedToken(it, vocabulary[it] ?: unknown) }
    }

    /** Ids without framing, all those of a word with several embeddings among them. */
    private fun body(prompt: String): List<Int> {
        val whole = if (added.hasSeveral) added.expand(prompt, tokens(prompt).mapNotNull { it.second }) else prompt
        return tokens(whole).map { it.first }
    }

    /** The prompt from its last word on that has no more than `kept` tokens before it. */
    private fun cut(prompt: String, kept: Int): String {
        val starts = WORD_START.findAll(prompt).map { it.range.first }.toList()
        var first = 0
        var last = starts.size - 1
        while (first < last) {
            val middle = (first + last + 1) / 2
            if (body(prompt.substring(0, starts[middle])).size <= kept) first = middle else last = middle - 1
        }
        return prompt.substring(starts.getOrElse(first) { 0 }).replace(TAIL, "")
    }

    /** Each token's id, and for an added word the text that was taken for it. */
    private fun tokens(prompt: String): List<Pair<Int, String?>> = added.split(prompt).flatMap { part ->
        if (part.id != null) listOf(Pair(part.id, part.text))
        else WORD.findAll(part.text).flatMap { idsOf(it.value) }.map { Pair(it, added.content(it)) }.toList()
    }

    /** <|EndOfText|> may be no added word, but in lower case it parts words like one. */
    private fun idsOf(word: String): Sequence<Int> {
        val isMark = word == START_OF_TEXT || word == END_OF_TEXT
        val parts = if (isMark) listOf(word.take(2), word.drop(2).dropLast(2), word.takeLast(2)) else listOf(word)
        return parts.asSequence().flatMap { pieces(it).asSequence() }.map { vocabulary[it] ?: unknown }
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

    companion object {
        private const val START_OF_TEXT = "<|startoftext|>"
        private const val END_OF_TEXT = "<|endoftext|>"
        private const val WORD_END = "</w>"

        // White space is spelled out: what \s means differs between Android's and a desktop's engine.
        private const val BLANK = "\\p{Z}\\u0009-\\u000D\\u0085"
        private const val UNSPACED =
            "[\\u3041-\\u3096\\u30A1-\\u30FA\\u3400-\\u4DBF\\u4E00-\\u9FFF\\x{20000}-\\x{3FFFF}]"
        private val WORD_START = Regex("(?<![^$BLANK])[^$BLANK]|$UNSPACED")
        private val TAIL = Regex("[$BLANK]+\\z")
        private val SPACES = Regex("[$BLANK]+")
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

        private const val VOCABULARY = "vocab.json"
        private const val MERGES = "merges.txt"

        /** What it reads. */
        val FILES = setOf(VOCABULARY, MERGES)

        /** Read `vocab.json` and `merges.txt` in a bundle's folder. Throws [BundleException]. */
        fun read(folder: File, facts: TokenizerFacts): ClipTokenizer {
            val files = BundleFiles(folder)
            val vocabulary = HashMap<String, Int>()
            try {
                val json = StrictJson.table(files.text(VOCABULARY))
                for (token in json.keys().asSequence().map { it.toString() }) {
                    val id = json.get(token) as? Int ?: -1
                    if (id !in 0..Limits.TOKEN_ID) throw BundleException("$VOCABULARY: an id is no token's; convert again")
                    vocabulary[token] = id
                }
            } catch (error: JSONException) {
                throw BundleException("$VOCABULARY: ${error.message}; convert again")
            }
            val ranks = HashMap<Pair<String, String>, Int>()
            files.text(MERGES).lineSequence().forEach { line ->
                val pair = line.split(' ')
                if (pair.size == 2 && !line.startsWith("#version")) ranks[Pair(pair[0], pair[1])] = ranks.size
            }
            return ClipTokenizer(vocabulary, ranks, facts)
        }

        /** Composed (NFC), one space for each run of white space, lower case. */
        private fun normalize(text: String): String =
            lowerCase(SPACES.replace(Normalizer.normalize(text, Normalizer.Form.NFC), " "))

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
