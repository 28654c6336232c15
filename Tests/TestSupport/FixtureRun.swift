// A small model run without an engine: prompts in chunks of any size, alone or together, all logits.

import Execution
import Models
import Scheduling
import Tensors

/// A model and a cache of its own.
package final class FixtureRun {
    private let parts: EngineParts
    private let cache: [KVLayer]
    private let blockSize = 16
    private let blocksEach = 5
    /// [sequences] The place of each one's adapter; −1 for none.
    package var places: [Int32] = [-1, -1, -1]

    package init(_ parts: EngineParts) throws {
        self.parts = parts
        let dimensions = parts.model.dimensions
        cache = try (0..<dimensions.layerCount).map { _ in
            try parts.backend.allocateKVLayer(
                blockCount: 16, kvHeads: dimensions.kvHeadCount, blockSize: 16, headDim: dimensions.headDim)
        }
    }

    /// [tokens, vocab] logits of one sequence, computed in steps of `chunks` tokens.
    /// - Parameter isFirst: whether nothing is cached; otherwise all but the last token is.
    package func logits(of tokens: [TokenID], chunks: [Int], isFirst: Bool = true) throws -> [[Float]] {
        var start = isFirst ? 0 : tokens.count - 1
        var rows: [[Float]] = []
        for chunk in isFirst ? chunks : [1] {
            rows += try step([(0, start, Array(tokens[start..<start + chunk]))])
            start += chunk
        }
        return rows
    }

    /// [3, vocab] the last logits of prefixes of `tokens` that end 0, 5 and 11 before its end, prefilled and then
    /// continued together.
    package func logits(ofThree tokens: [TokenID]) throws -> [[Float]] {
        let lengths = [0, 5, 11].map { tokens.count - $0 }
        func span(_ sequence: Int, _ first: Int, _ end: Int) -> (sequence: Int, first: Int, tokens: [TokenID]) {
            (sequence, first, Array(tokens[first..<end]))
        }
        _ = try step([span(0, 0, lengths[0] - 9)])
        _ = try step([span(1, 0, lengths[1] - 9), span(0, lengths[0] - 9, lengths[0] - 1)])
        _ = try step([span(2, 0, lengths[2] - 1), span(1, lengths[1] - 9, lengths[1] - 1)])
        return try step((0..<3).map { span($0, lengths[$0] - 1, lengths[$0]) })
    }

    /// Logits of all rows of a step: (sequence, position of the first token, tokens).
    private func step(_ spans: [(sequence: Int, first: Int, tokens: [TokenID])]) throws -> [[Float]] {
        let backend = parts.backend
        func tensor(_ values: [Int32], _ shape: Shape? = nil) throws -> Tensor {
            let tensor = try backend.allocate(shape ?? [values.count], .i32, purpose: "test")
            backend.upload(values, count: values.count, to: tensor)
            return tensor
        }
        var (starts, positions, slots): ([Int32], [Int32], [Int32]) = ([0], [], [])
        for span in spans {
            for position in span.first..<span.first + span.tokens.count {
                positions.append(Int32(position))
                slots.append(Int32(span.sequence * blocksEach * blockSize + position))
            }
            starts.append(Int32(positions.count))
        }
        let tables = spans.flatMap { span in (0..<blocksEach).map { Int32(span.sequence * blocksEach + $0) } }
        let count = positions.count
        let batch = AttentionBatch(
            tokenCount: count, sequenceCount: spans.count, maxQueryLength: spans.map(\.tokens.count).max() ?? 0,
            maxContextLength: spans.map { $0.first + $0.tokens.count }.max() ?? 0, queryStarts: try tensor(starts),
            contextLengths: try tensor(spans.map { Int32($0.first + $0.tokens.count) }),
            blockTables: try tensor(tables, [spans.count, blocksEach]), slotMapping: try tensor(slots),
            positions: try tensor(positions))
        let choices = spans.flatMap { span in span.tokens.map { _ in places[span.sequence] } }
        let forward = ForwardStep(
            tokens: try tensor(spans.flatMap(\.tokens)), batch: batch,
            sampledRows: try tensor((0..<Int32(count)).map { $0 }),
            adapters: choices.contains { $0 >= 0 } ? try tensor(choices) : nil)
        let shape = StepShape(
            tokenCount: count, sequenceCount: spans.count, sampledRowCount: count, isDecodeOnly: count == spans.count)
        backend.perform(shape) {
            parts.model.forward(forward, cache: cache, backend: backend)
        }
        try backend.synchronize()
        let vocabulary = parts.model.dimensions.vocabularyCount
        let logits = backend.download(parts.model.logits.prefix(rows: count))
        return (0..<count).map { Array(logits[$0 * vocabulary..<($0 + 1) * vocabulary]) }
    }
}
