// Windows, soft caps and sinks: against f64, and bit for bit however the work is cut. Table entries that lie wholly
// behind the windows of a step name no block.

import Tensors

extension ConformanceCase {
    static let attentionOptionCases: [ConformanceCase] =
        [(1, 64), (5, 64), (16, 80), (100, 64), (128, 96), (129, 128), (200, 256), (511, 64)].map {
            window, headDim in
            ConformanceCase(
                "attention over a window of \(window) by heads of \(headDim) agrees with f64", isSmall: window == 5
            ) { try windowError($0, window: window, headDim: headDim) }
        } + [
            ConformanceCase("attention with capped scores agrees with f64", isSmall: true) { backend in
                var world = PagedSequences(heads: 6, kvHeads: 2, headDim: 64, lengths: [1, 65, 140])
                world.softCap = 1.5
                return try worstError(of: world, backend)
            },
            ConformanceCase("attention with sinks agrees with f64", isSmall: true) { backend in
                var world = PagedSequences(heads: 6, kvHeads: 2, headDim: 64, lengths: [1, 65, 140, 300])
                world.sinks = [-3, 0, 0.5, 2, 6, -90]
                return try worstError(of: world, backend)
            },
            ConformanceCase("attention with window, cap and sinks at once agrees with f64") { backend in
                var world = PagedSequences(heads: 4, kvHeads: 1, headDim: 128, lengths: [40, 300, 131])
                (world.window, world.softCap, world.sinks) = (37, 2, [1, 0, -1, 3])
                return try worstError(of: world, backend)
            },
            ConformanceCase("attention with a window gives the same bits alone, in a batch, in chunks", windowBits),
        ]

    /// All but the last rows together, then one each.
    private static func worstError(of world: PagedSequences, _ backend: any Backend) throws -> Double {
        let steps = [world.step(from: 0, to: -1), world.step(from: -1, to: 0)]
        return try world.worstError(world.attend(backend, blockSize: 16, steps: steps), backend)
    }

    private static func windowError(_ backend: any Backend, window: Int, headDim: Int) throws -> Double {
        var worst = WorstError()
        for lengths in [[1, 2, 17], [64, 130, 257], [600]] {
            var world = PagedSequences(heads: 6, kvHeads: 2, headDim: headDim, lengths: lengths)
            world.window = window
            try worst.note(worstError(of: world, backend), allowed: 1)
        }
        return worst.value
    }

    private static func windowBits(_ backend: any Backend) throws -> Double {
        var worst = WorstError()
        var world = PagedSequences(heads: 6, kvHeads: 2, headDim: 64, lengths: [300, 40, 145])
        (world.window, world.sinks) = (70, [0, 1, 2, -1, 0.5, 3])
        let alone = world.oneStep[0].map { [$0] }
        let reference = try world.attend(backend, blockSize: 16, steps: alone).map { $0.map { bits($0) } }
        var chunks: [[PagedSequences.Span]] = []
        for start in stride(from: 0, to: 300, by: 31) { chunks.append(world.step(from: start, to: start + 31)) }
        for (blockSize, steps) in [(32, world.oneStep), (16, chunks), (64, chunks)] {
            let other = try world.attend(backend, blockSize: blockSize, steps: steps).map { $0.map { bits($0) } }
            worst.note(other == reference)
        }
        let last = try world.attend(
            backend, blockSize: 16, stored: world.step(from: 0, to: -1), steps: [world.step(from: -1, to: 0)])
        worst.note(zip(last, reference).allSatisfy { bits($0.last ?? []) == $1.last })
        return worst.value
    }
}
