// storeKV and attend: against f64 over head shapes and lengths, and bit for bit however the work is cut.

import Tensors

extension ConformanceCase {
    static let attentionCases: [ConformanceCase] =
        [
            (heads: 9, kvHeads: 3, headDim: 64), (4, 4, 80), (8, 2, 96), (8, 1, 128), (7, 1, 64), (32, 2, 64),
            (4, 2, 256),
        ].map { shape in
            ConformanceCase(
                "attention of \(shape.heads) heads over \(shape.kvHeads) of \(shape.headDim) agrees with f64",
                isSmall: shape.headDim == 80
            ) { backend in
                var worst = WorstError()
                for lengths in [[1, 2, 17], [63, 64, 65], [127, 128, 129]] {
                    let world = PagedSequences(
                        heads: shape.heads, kvHeads: shape.kvHeads, headDim: shape.headDim, lengths: lengths)
                    let results = try world.attend(backend, blockSize: 16, steps: world.oneStep)
                    worst.note(world.worstError(results, backend, cacheIsBF16: true), allowed: 1)
                }
                return worst.value
            }
        } + [
            ConformanceCase("attention over long contexts agrees with f64, one row at a time too") { backend in
                let world = PagedSequences(heads: 6, kvHeads: 2, headDim: 64, lengths: [511, 513, 1100])
                var worst = WorstError()
                // All but the last row in one step; then one row each.
                let steps = [
                    world.lengths.enumerated().map { PagedSequences.Span(sequence: $0, first: 0, count: $1 - 1) },
                    world.lengths.enumerated().map { PagedSequences.Span(sequence: $0, first: $1 - 1, count: 1) },
                ]
                let results = try world.attend(backend, blockSize: 32, steps: steps)
                worst.note(world.worstError(results, backend, cacheIsBF16: true), allowed: 1)
                return worst.value
            },
            ConformanceCase("attention gives the same bits alone, in a batch, in chunks, token by token", invariance),
        ]

    private static func invariance(_ backend: any Backend) throws -> Double {
        let world = PagedSequences(heads: 9, kvHeads: 3, headDim: 64, lengths: [300, 1, 130, 150])
        let alone = world.lengths.indices.map { s in
            [PagedSequences.Span(sequence: s, first: 0, count: world.lengths[s])]
        }
        // Two sequences prefill in chunks of 64 and 37 while another goes token by token.
        var mixed: [[PagedSequences.Span]] = []
        var done = [0, 0, 0, 0]
        while done != world.lengths {
            var spans: [PagedSequences.Span] = []
            for (s, most) in [(2, 5), (0, 64), (3, 37), (1, 1)] where done[s] < world.lengths[s] {
                // The last rows come one by one.
                let left = world.lengths[s] - done[s]
                let count = left <= 4 ? 1 : min(most, left)
                spans.append(.init(sequence: s, first: done[s], count: count))
                done[s] += count
            }
            mixed.append(spans)
        }
        var worst = WorstError()
        let reference = try world.attend(backend, blockSize: 16, steps: alone).map { $0.map { bits($0) } }
        for blockSize in [16, 32, 64] {
            for steps in [world.oneStep, mixed] {
                worst.note(
                    try world.attend(backend, blockSize: blockSize, steps: steps).map { $0.map { bits($0) } }
                        == reference)
            }
        }
        return worst.value
    }
}
