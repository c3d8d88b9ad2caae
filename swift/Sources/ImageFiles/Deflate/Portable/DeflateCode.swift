/// Prefix codes: the best lengths for given frequencies, and the bits that follow from lengths.
enum DeflateCode {
    /// Bits of each symbol, the first bit of the code in the lowest place, as they are written.
    static func reversedCodes(_ lengths: [UInt8]) -> [UInt16] {
        var counts = [UInt16](repeating: 0, count: 17)
        for length in lengths where length > 0 { counts[Int(length)] += 1 }
        var next = [UInt16](repeating: 0, count: 17)
        for length in 1...15 { next[length + 1] = (next[length] &+ counts[length]) &<< 1 }
        return lengths.map { length in
            guard length > 0 else { return 0 }
            var code = next[Int(length)]
            next[Int(length)] &+= 1
            var reversed: UInt16 = 0
            for _ in 0..<length {
                reversed = reversed << 1 | code & 1
                code >>= 1
            }
            return reversed
        }
    }

    /// Lengths up to `limit` with the smallest sum of frequency times length (package-merge); 0 for
    /// symbols that do not occur.
    static func lengths(frequencies: [Int], limit: Int) -> [UInt8] {
        var lengths = [UInt8](repeating: 0, count: frequencies.count)
        let symbols = frequencies.indices.filter { frequencies[$0] > 0 }
            .sorted { (frequencies[$0], $0) < (frequencies[$1], $1) }
        guard symbols.count > 1 else {
            for symbol in symbols { lengths[symbol] = 1 }
            return lengths
        }
        let leaves = symbols.map { Package(weight: frequencies[$0], symbol: $0) }
        var nodes: [Package] = []
        var list = place(leaves, in: &nodes)
        for _ in 1..<limit {
            var pairs: [Package] = []
            for index in stride(from: 0, to: list.count - 1, by: 2) {
                let (left, right) = (list[index], list[index + 1])
                let weight = nodes[left].weight + nodes[right].weight
                pairs.append(Package(weight: weight, left: left, right: right))
            }
            list = place(merged(leaves, pairs), in: &nodes)
        }
        var pending = Array(list.prefix(2 * symbols.count - 2))
        while let node = pending.popLast() {
            if nodes[node].symbol >= 0 {
                lengths[nodes[node].symbol] += 1
            } else {
                pending.append(nodes[node].left)
                pending.append(nodes[node].right)
            }
        }
        return lengths
    }

    /// A symbol, or two packages of the level below.
    private struct Package {
        var weight: Int
        var symbol = -1
        var left = -1
        var right = -1
    }

    /// Adds packages to the nodes; gives their places.
    private static func place(_ packages: [Package], in nodes: inout [Package]) -> [Int] {
        let first = nodes.count
        nodes += packages
        return Array(first..<nodes.count)
    }

    /// Two sorted lists as one.
    private static func merged(_ first: [Package], _ second: [Package]) -> [Package] {
        var result: [Package] = []
        result.reserveCapacity(first.count + second.count)
        var (left, right) = (0, 0)
        while left < first.count || right < second.count {
            let takesLeft =
                right == second.count
                || (left < first.count && first[left].weight <= second[right].weight)
            result.append(takesLeft ? first[left] : second[right])
            if takesLeft { left += 1 } else { right += 1 }
        }
        return result
    }
}
