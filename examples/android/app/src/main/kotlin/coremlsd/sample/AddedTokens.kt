// Sample for LiteRT on Android. Not compiled for Android here: no Android toolchain on the machines
// that coreml-sd is built on. The README says which files were compiled and run on a desktop JVM.
package coremlsd.sample

/**
 * A word that a tokenizer finds whole: [lstrip] and [rstrip] take the white space beside it, [singleWord] leaves it
 * alone inside a longer word, and where [normalized] it is looked for in normalized text (lower case).
 */
data class AddedToken(
    val content: String,
    val id: Int,
    val lstrip: Boolean = false,
    val rstrip: Boolean = false,
    val singleWord: Boolean = false,
    val normalized: Boolean = false
)

/** A part of a text: an added word with the text that was taken for it, or text between (no id). */
class TextPart(val id: Int?, val text: String)

/**
 * Added words in a text, as the tokenizers library finds them: those that are not normalized first, in the text as it
 * is written; then the others, in what `normalize` makes of the text.
 */
class AddedTokens(tokens: List<AddedToken>, private val normalize: (String) -> String) {
    private val written = patterns(tokens.filter { !it.normalized }) { it }
    private val normalized = patterns(tokens.filter { it.normalized }, normalize)
    private val contents = tokens.associate { it.id to it.content }
    private val spellings = contents.values.toSet()

    /** The word with an id, as it was added. */
    fun content(id: Int): String? = contents[id]

    /** The words and the normalized text between them, in order. */
    fun split(text: String): List<TextPart> = split(text, written).flatMap { part ->
        if (part.id != null) listOf(part) else split(normalize(part.text), normalized)
    }

    /** Whether a word has several embeddings: `x`, `x_1`, ... */
    val hasSeveral = spellings.any { it + "_1" in spellings }

    /**
     * A prompt with all embeddings of its words, as diffusers' pipelines write textual inversions. `tokens` are the
     * texts that were taken for added words; one that was written otherwise than it was added stays as it is.
     */
    fun expand(prompt: String, tokens: List<String>): String = tokens.distinct().filter { it in spellings }
        .fold(prompt) { text, token ->
            val more = generateSequence(1) { it + 1 }.map { "${token}_$it" }.takeWhile { it in spellings }
            text.replace(token, (sequenceOf(token) + more).joinToString(" "))
        }

    private fun patterns(tokens: List<AddedToken>, spelling: (String) -> String): List<Pair<String, AddedToken>> =
        tokens.map { Pair(spelling(it.content), it) }
            .filter { it.first.isNotEmpty() }
            .sortedByDescending { it.first.length }

    /** The leftmost word first, the longest of those that begin there. */
    private fun split(text: String, patterns: List<Pair<String, AddedToken>>): List<TextPart> {
        val parts = ArrayList<TextPart>()
        var begin = 0
        var position = 0
        while (position < text.length) {
            val match = patterns.firstOrNull { text.startsWith(it.first, position) }
            if (match == null) {
                position++
                continue
            }
            val (word, token) = match
            var start = position
            var end = position + word.length
            position = end
            if (token.singleWord && !isWhole(text, start, end)) continue
            if (token.lstrip) while (start > begin && isSpace(text[start - 1])) start--
            if (token.rstrip) while (end < text.length && isSpace(text[end])) end++
            if (begin < start) parts.add(TextPart(null, text.substring(begin, start)))
            parts.add(TextPart(token.id, text.substring(start, end)))
            begin = end
        }
        if (begin < text.length) parts.add(TextPart(null, text.substring(begin)))
        return parts
    }

    private fun isWhole(text: String, start: Int, end: Int): Boolean {
        val before = start > 0 && isOfWord(text.codePointBefore(start))
        val after = end < text.length && isOfWord(text.codePointAt(end))
        return !before && !after
    }

    companion object {
        /** Unicode's white space: what \s means differs between Android's and a desktop's engine. */
        fun isSpace(letter: Char) =
            letter in '\u0009'..'\u000D' || letter == '\u0085' || Character.isSpaceChar(letter)

        /** Whether it can be part of a word: \w of Unicode's regular expressions. */
        private fun isOfWord(letter: Int): Boolean {
            if (letter == ZERO_WIDTH_NON_JOINER || letter == ZERO_WIDTH_JOINER) return true
            return Character.isAlphabetic(letter) || when (Character.getType(letter).toByte()) {
                Character.NON_SPACING_MARK, Character.COMBINING_SPACING_MARK, Character.ENCLOSING_MARK,
                Character.DECIMAL_DIGIT_NUMBER, Character.CONNECTOR_PUNCTUATION -> true
                else -> false
            }
        }

        private const val ZERO_WIDTH_NON_JOINER = 0x200C
        private const val ZERO_WIDTH_JOINER = 0x200D
    }
}
