/// Merges the bytes of a word into tokens: always the pair of the lowest rank, the leftmost first.
///
/// Words can be thousands of bytes long (scripts without spaces), so candidates wait in a heap and
/// the tokens are a linked list: n log n, not n squared.
struct BytePairMerger {
    private struct Symbol {
        var id: Int32
        var previous: Int32
        var next: Int32
        var isMergedAway = false
    }

    private struct Candidate {
        let rank: Int32
        let position: Int32
        let id: Int32

        func comes(before other: Candidate) -> Bool {
            (rank, position) < (other.rank, other.position)
        }
    }

    private let vocabulary: Vocabulary
    private var symbols: [Symbol] = []
    private var heap: [Candidate] = []

    init(vocabulary: Vocabulary) {
        self.vocabulary = vocabulary
    }

    /// Appends the ids of a word; `word` is not empty.
    mutating func append(word: [UInt8], to ids: inout [Int]) {
        fill(word)
        while let candidate = popFirst() { merge(candidate) }
        var position = 0
        while position >= 0 {
            ids.append(Int(symbols[position].id))
            position = Int(symbols[position].next)
        }
    }

    private mutating func fill(_ word: [UInt8]) {
        symbols.removeAll(keepingCapacity: true)
        let last = word.count - 1
        for (index, byte) in word.enumerated() {
            let table = index == last ? vocabulary.lastBytes : vocabulary.bytes
            symbols.append(
                Symbol(
                    id: table[Int(byte)], previous: Int32(index) - 1,
                    next: index == last ? -1 : Int32(index) + 1))
        }
        for index in 0..<last { push(left: index, right: index + 1) }
    }

    /// Joins a candidate's two symbols, unless one of them has changed since.
    private mutating func merge(_ candidate: Candidate) {
        let left = Int(candidate.position)
        guard !symbols[left].isMergedAway, symbols[left].next >= 0 else { return }
        let right = Int(symbols[left].next)
        guard vocabulary.merge(symbols[left].id, symbols[right].id)?.id == candidate.id else { return }
        symbols[left].id = candidate.id
        symbols[left].next = symbols[right].next
        symbols[right].isMergedAway = true
        let after = Int(symbols[right].next)
        if after >= 0 {
            symbols[after].previous = Int32(left)
            push(left: left, right: after)
        }
        let before = Int(symbols[left].previous)
        if before >= 0 { push(left: before, right: left) }
    }

    private mutating func push(left: Int, right: Int) {
        guard let merge = vocabulary.merge(symbols[left].id, symbols[right].id) else { return }
        let candidate = Candidate(rank: merge.rank, position: Int32(left), id: merge.id)
        var child = heap.count
        heap.append(candidate)
        while child > 0 {
            let parent = (child - 1) / 2
            guard candidate.comes(before: heap[parent]) else { break }
            heap[child] = heap[parent]
            child = parent
        }
        heap[child] = candidate
    }

    private mutating func popFirst() -> Candidate? {
        guard let first = heap.first, let moved = heap.popLast() else { return nil }
        guard !heap.isEmpty else { return first }
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, heap[child + 1].comes(before: heap[child]) { child += 1 }
            guard heap[child].comes(before: moved) else { break }
            heap[parent] = heap[child]
            parent = child
        }
        heap[parent] = moved
        return first
    }
}
