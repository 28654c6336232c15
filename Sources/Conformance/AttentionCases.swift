// storeKV and attend: against f64 over head shapes and lengths, and bit for bit however the work is cut.

import Tensors

extension ConformanceCase {
    static let attentionCases: [ConformanceCase] =
        [
            (heads: 9, kvHeads: 3, headDim: 64), (4, 4, 80), (8, 2, 96), (8, 1, 128), (7, 1, 64), (32, 2, 64),
            (4, 2, 256), (10, 2, 128), (6, 1, 80),
        ].map { shape in
            ConformanceCase(
                "attention of \(shape.heads) heads over \(shape.kvHeads) of \(shape.headDim) agrees with f64",
                isSmall: shape.headDim == 80
            ) { backend in
                var worst = WorstError()
                for lengths in [[1, 2, 17], [63, 64, 65], [127, 128, 129]] {
                    let world = PagedSequences(
                        heads: shape.heads, kvHeads: shape.kvHeads, headDim: shape.headDim, lengths: lengths)
                    // All but the last rows together, then one each.
                    let steps = [world.step(from: 0, to: -1), world.step(from: -1, to: 0)]
                    let results = try world.attend(backend, blockSize: 16, steps: steps)
                    try worst.note(world.worstError(results, backend), allowed: 1)
                }
                return worst.value
            }
        }
        + [64, 80, 96, 128, 256].map { headDim in
            ConformanceCase("attention at the end of 511 to 513 positions of \(headDim) agrees with f64") { backend in
                let world = PagedSequences(heads: 3, kvHeads: 1, headDim: headDim, lengths: [511, 512, 513, 1])
                let steps = [world.step(from: -3, to: -1), world.step(from: -1, to: 0)]
                let results = try world.attend(
                    backend, blockSize: 32, stored: world.step(from: 0, to: -3), steps: steps)
                return try world.worstError(results, backend, last: 3)
            }
        }
        + (1...8).map { group in
            ConformanceCase("attention of \(group) heads to a group agrees with f64, decoding") { backend in
                let world = PagedSequences(heads: 2 * group, kvHeads: 2, headDim: 64, lengths: [65, 129, 1, 300])
                let results = try world.attend(
                    backend, blockSize: 16, stored: world.step(from: 0, to: -1), steps: [world.step(from: -1, to: 0)])
                return try world.worstError(results, backend, last: 1)
            }
        }
        + [
            ConformanceCase("attention over long contexts agrees with f64, one row at a time too") { backend in
                let world = PagedSequences(heads: 6, kvHeads: 2, headDim: 64, lengths: [511, 513, 1100])
                var worst = WorstError()
                // All but the last row in one step; then one row each.
                let steps = [
                    world.lengths.enumerated().map { PagedSequences.Span(sequence: $0, first: 0, count: $1 - 1) },
                    world.lengths.enumerated().map { PagedSequences.Span(sequence: $0, first: $1 - 1, count: 1) },
                ]
                let results = try world.attend(backend, blockSize: 32, steps: steps)
                try worst.note(world.worstError(results, backend), allowed: 1)
                return worst.value
            },
            ConformanceCase("attention gives the same bits alone, in a batch, in chunks, token by token") {
                try invariance(of: .auto, $0)
            },
            ConformanceCase("attention gives the same bits alone, in a batch, token by token, of heads of 128") {
                try invariance(of: .auto, heads: 8, kvHeads: 2, headDim: 128, blockSizes: [16], $0)
            },
            ConformanceCase("attention gives the same bits over pages that sequences share", isSmall: true) { backend in
                let world = PagedSequences(
                    heads: 6, kvHeads: 2, headDim: 64, lengths: [150, 96, 97, 140], sharedLength: 96)
                let steps = [world.step(from: 0, to: -2), world.step(from: -2, to: -1), world.step(from: -1, to: 0)]
                var worst = WorstError()
                for blockSize in [16, 32] {
                    let shared = try world.attend(backend, blockSize: blockSize, steps: steps, isShared: true)
                    let own = try world.attend(
                        backend, blockSize: blockSize, stored: world.wholePrefixes, steps: steps)
                    worst.note(shared.map { $0.map { bits($0) } } == own.map { $0.map { bits($0) } })
                    worst.note(shared[0].allSatisfy { $0.count == 6 * 64 && $0.allSatisfy(\.isFinite) })
                    worst.note(shared[1].allSatisfy(\.isEmpty) && !shared[2][96].isEmpty)
                }
                return worst.value
            },
            ConformanceCase("sequences without rows, and rows without a sequence, disturb nobody", isSmall: true) {
                try fillError($0)
            },
        ]

    private static func fillError(_ backend: any Backend) throws -> Double {
        var worst = WorstError()
        for headDim in [64, 128] {
            let world = PagedSequences(heads: 4, kvHeads: 2, headDim: headDim, lengths: [70, 1, 33, 129])
            // A mixed step, then one that only decodes.
            let steps = [world.step(from: 0, to: -1), world.step(from: -1, to: 0)]
            let alone = try world.attend(backend, blockSize: 16, steps: steps).map { $0.map { bits($0) } }
            for fill in [1, 4, 29] {
                let filled = try world.attend(backend, blockSize: 16, steps: steps, fill: fill)
                worst.note(filled.map { $0.map { bits($0) } } == alone)
            }
        }
        return worst.value
    }

    static func invariance(
        of type: KVCacheType, heads: Int = 9, kvHeads: Int = 3, headDim: Int = 64, blockSizes: [Int] = [16, 32, 64],
        _ backend: any Backend
    ) throws -> Double {
        var world = PagedSequences(heads: heads, kvHeads: kvHeads, headDim: headDim, lengths: [300, 1, 130, 150])
        world.type = type
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
        for blockSize in blockSizes {
            for steps in [world.oneStep, mixed] {
                worst.note(
                    try world.attend(backend, blockSize: blockSize, steps: steps).map { $0.map { bits($0) } }
                        == reference)
            }
        }
        return worst.value
    }
}
