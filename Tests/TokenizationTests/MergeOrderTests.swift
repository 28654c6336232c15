// Merging against its definition: random vocabularies whose ranks follow no order of creation, and texts long and
// short, merged by looking at every pair each time.

import Testing
import Tokenization

struct MergeOrderTests {
    /// Merges over a few letters, in an order that makes eager merges out of the products of reluctant ones.
    private func randomMerges(_ generator: inout SeededGenerator) -> [(left: String, right: String)] {
        var pieces = ["g", "h", "i"]
        var merges: [(left: String, right: String)] = []
        for _ in 0..<60 {
            guard let left = pieces.randomElement(using: &generator),
                let right = pieces.randomElement(using: &generator),
                left.count + right.count <= 12, !merges.contains(where: { $0 == (left, right) })
            else { continue }
            merges.append((left, right))
            if !pieces.contains(left + right) { pieces.append(left + right) }
        }
        return merges.shuffled(using: &generator)
    }

    /// Byte-pair encoding as it is defined, in quadratic time.
    private func merged(_ text: String, by merges: [(left: String, right: String)]) -> [String] {
        let pairs = merges.map { [$0.left, $0.right] }
        let rankOfPair = Dictionary(uniqueKeysWithValues: zip(pairs, 0...))
        var pieces = text.map(String.init)
        while true {
            let ranks = zip(pieces, pieces.dropFirst()).map { rankOfPair[[$0, $1]] ?? .max }
            guard let best = ranks.min(), best != .max, let index = ranks.firstIndex(of: best) else { return pieces }
            pieces[index] += pieces.remove(at: index + 1)
        }
    }

    @Test(arguments: 0..<UInt64(30))
    func `merging is what its definition says, whatever the order of ranks`(seed: UInt64) throws {
        var generator = SeededGenerator(state: seed)
        let merges = randomMerges(&generator)
        let tokenizer = try TinyVocabulary.tokenizer { definition in
            definition.merges = PackedStrings(merges.map { $0.left + " " + $0.right })
            for piece in Set(merges.map { $0.left + $0.right }).sorted() {
                definition.pieces.append(piece.utf8)
                definition.types.append(1)
            }
        }
        for length in [2, 7, 47, 48, 49, 50, 90, 150] {
            let text = (0..<length).map { _ in ["g", "h", "i"].randomElement(using: &generator) ?? "g" }.joined()
            let pieces = try tokenizer.encode(text).map { tokenizer.text(of: $0) ?? "" }
            #expect(pieces == merged(text, by: merges), "seed \(seed): \(text)")
        }
    }
}
