// Attention over keys and values in 8 bits: against f64 over what the cache holds, and bit for bit however the work is
// cut. A backend that refuses a type has nothing to show.

import Tensors

extension ConformanceCase {
    static let attentionByteCases: [ConformanceCase] =
        [(KVCacheType.int8PerTokenHead, "int8"), (.fp8, "fp8")].flatMap { type, name in
            [(9, 3, 64), (8, 2, 96), (4, 4, 80), (8, 1, 256), (12, 2, 128)].map { heads, kvHeads, headDim in
                ConformanceCase(
                    "attention of \(heads) heads over \(kvHeads) of \(headDim) in \(name) agrees with f64",
                    isSmall: headDim == 80
                ) { backend in
                    guard has(type, backend) else { return 0 }
                    var worst = WorstError()
                    for lengths in [[1, 2, 17], [127, 128, 129], [300]] {
                        var world = PagedSequences(heads: heads, kvHeads: kvHeads, headDim: headDim, lengths: lengths)
                        world.type = type
                        let steps = [world.step(from: 0, to: -1), world.step(from: -1, to: 0)]
                        let results = try world.attend(backend, blockSize: 16, steps: steps)
                        try worst.note(world.worstError(results, backend), allowed: 1)
                    }
                    return worst.value
                }
            } + [
                ConformanceCase("attention in \(name) with window, cap and sinks at once agrees with f64") { backend in
                    guard has(type, backend) else { return 0 }
                    var worst = WorstError()
                    for window in [5, 37, 130] {
                        var world = PagedSequences(heads: 4, kvHeads: 1, headDim: 64, lengths: [40, 300, 131])
                        (world.window, world.softCap, world.sinks) = (window, 2, [1, 0, -1, 3])
                        world.type = type
                        let steps = [world.step(from: 0, to: -1), world.step(from: -1, to: 0)]
                        let results = try world.attend(backend, blockSize: 16, steps: steps)
                        try worst.note(world.worstError(results, backend), allowed: 1)
                    }
                    return worst.value
                },
                ConformanceCase("attention in \(name) gives the same bits alone, in a batch, in chunks, token by token")
                { try has(type, $0) ? invariance(of: type, $0) : 0 },
            ]
        }

    private static func has(_ type: KVCacheType, _ backend: any Backend) -> Bool {
        do { return try backend.kvCacheType(type) == type } catch { return false }
    }
}
