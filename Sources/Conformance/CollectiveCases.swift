// What a group of ranks must do right, from the side of one of them: every rank runs this at the same time, on its own
// thread, and knows what the others bring.

import Tensors

/// Sums and gathers against 64-bit floats, through `Backend.collectives` alone, and a sum with the norm behind it
/// against the norm by itself: a backend may do both at once.
package enum CollectiveCheck {
    /// Rows and columns: single elements, odd ones, a step's rows; beyond the small ones messages that are added in
    /// parts, and in pieces.
    package static let smallShapes = [(1, 1), (3, 5), (2, 2049), (16, 576)]
    private static let largeShapes = [(40, 4096), (600, 4096)]

    /// The largest error this rank found, as a fraction of what is allowed; infinity where a gathered element, or a bit
    /// of a sum on another rank or in a repetition, or of its norm, differs. Repetitions are captured and replayed
    /// where steps are.
    package static func worstError(_ backend: any Backend, isSmall: Bool) throws -> Double {
        guard let collectives = backend.collectives else { return .infinity }
        let (shard, count) = (collectives.shard, collectives.shard.count)
        var worst = WorstError()
        for (index, (rows, columns)) in (smallShapes + (isSmall ? [] : largeShapes)).enumerated() {
            let size = rows * columns
            let inputs = (0..<count).map { values(rank: $0, size) }
            let x = try backend.allocate([rows, columns], .f32, purpose: "a check")
            let parts = try backend.allocate([count * rows, columns], .f32, purpose: "a check")
            let output = try backend.allocate([rows, count * columns], .f32, purpose: "a check")
            let normed = try backend.allocate([rows, columns], backend.linearInputType, purpose: "a check")
            let weight = try backend.allocate([columns], .f32, purpose: "a check")
            backend.upload(values(rank: count, columns), to: weight)
            // A step of a shape is captured with the tensors it had.
            let shape = backend.padded(
                StepShape(tokenCount: 128 * (index + 1), sequenceCount: 1, sampledRowCount: 1, isDecodeOnly: false))
            var sums: [Float] = []
            for repetition in 0..<3 {
                backend.upload(inputs[shard.rank], to: x)
                backend.upload(placed(inputs[shard.rank], shard), to: parts)
                backend.perform(shape) {
                    collectives.sum(x)
                    backend.rmsNorm(x, weight: weight, epsilon: 1e-5, into: normed)
                    collectives.gather(parts, into: output)
                }
                try backend.synchronize()
                let found = backend.download(x)
                if repetition == 0 { sums = found }
                worst.note(bits(found) == bits(sums))
                worst.note(bits(backend.download(output)) == bits(joined(inputs, columns)))
                let normedInStep = backend.download(normed)
                backend.rmsNorm(x, weight: weight, epsilon: 1e-5, into: normed)
                worst.note(bits(backend.download(normed)) == bits(normedInStep))
            }
            for (index, value) in sums.enumerated() {
                let terms = inputs.map { Double($0[index]) }
                let magnitude = terms.reduce(0) { $0 + abs($1) }
                worst.note(
                    Double(value) - terms.reduce(0, +), allowed: Double(count) * 0x1p-24 * magnitude + 1e-30)
            }
            // What every rank has as the sum, shown to all.
            backend.upload(placed(sums, shard), to: parts)
            collectives.gather(parts, into: output)
            try backend.synchronize()
            let everybodys = Array(repeating: sums, count: count)
            worst.note(bits(backend.download(output)) == bits(joined(everybodys, columns)))
        }
        return worst.value
    }

    /// What a rank brings: numbers of sizes so different that the order of additions shows.
    package static func values(rank: Int, _ count: Int) -> [Float] {
        var numbers = SeededNumbers(UInt64(100 + rank))
        return (0..<count).map { numbers.normal() * Float(1 << ($0 % 12)) }
    }

    /// This rank's slice among others' that are still to come.
    private static func placed(_ own: [Float], _ shard: Shard) -> [Float] {
        var all = [Float](repeating: .nan, count: shard.count * own.count)
        all.replaceSubrange(shard.rank * own.count..<(shard.rank + 1) * own.count, with: own)
        return all
    }

    /// The ranks' rows side by side.
    private static func joined(_ inputs: [[Float]], _ columns: Int) -> [Float] {
        (0..<inputs[0].count / columns).flatMap { row in
            inputs.flatMap { $0[row * columns..<(row + 1) * columns] }
        }
    }
}
