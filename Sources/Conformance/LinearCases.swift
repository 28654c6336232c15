// linear: against f64, and bit for bit whatever the batch.

import Tensors

extension ConformanceCase {
    static let linearCases =
        cases(linearOf: weightTypes)
        + [
            ConformanceCase("linear adds to what is there, and stacks parts", isSmall: true, accumulationError),
            ConformanceCase("linear reads scales that groups of any size share", groupError),
        ]
        + [(DType.bf16, 200, [1, 24, 72]), (.q4_1, 1000, [2, 16, 80]), (.q6_k, 1003, [4, 40, 96])].map {
            dtype, vocab, rowCounts in
            ConformanceCase("a greedy head of \(dtype.rawValue) chooses what sampling its logits does") {
                try greedyError($0, dtype, vocab, rowCounts)
            }
        }

    /// Products with, and rows of, the types that fewer files have.
    package static let furtherTypes = cases(linearOf: furtherWeightTypes) + furtherWeightTypes.map(embedCase)

    private static func cases(linearOf types: [DType]) -> [ConformanceCase] {
        types.map { dtype in
            ConformanceCase("linear of \(dtype.rawValue) stays within the bound of f64", isSmall: dtype == .q4_0) {
                try linearError($0, dtype)
            }
        }
            + types.map { dtype in
                ConformanceCase("linear of \(dtype.rawValue) gives a row the same bits in any batch") {
                    try linearInvariance($0, dtype)
                }
            }
    }

    /// Rows come out as the decoder has them, bit for bit.
    private static func embedCase(_ dtype: DType) -> ConformanceCase {
        ConformanceCase("embed reads \(dtype.rawValue) rows bit for bit") { backend in
            let matrix = EncodedMatrix(dtype, rows: 53, columns: 512, seed: 4)
            let tokens = (0..<41).map { Int32(($0 * 17 + 50) % 53) }
            let output = try backend.allocate([tokens.count, 512], .f32, purpose: "a check")
            backend.embed(try backend.tensor(tokens), try backend.prepare([matrix.tensor]), into: output)
            try backend.synchronize()
            var expected = tokens.flatMap { matrix.tensor.dequantizedRow(Int($0)) }
            if backend.linearInputType == .bf16, dtype == .q5_1 || dtype == .q2_k {
                expected = expected.map { Float(Float16($0)) }
            }
            return bits(backend.download(output)) == bits(expected) ? 0 : .infinity
        }
    }

    private static func linearError(_ backend: any Backend, _ dtype: DType) throws -> Double {
        var worst = WorstError()
        for (rows, columns, tokenCounts) in [
            (16, 64, [1]), (1, 64, [3, 66]), (50, 96, [1, 9, 130]), (33, 160, [63, 64, 127, 128, 129]),
            (80, 1536, [1, 17, 65]),
        ] {
            let columns = (columns + dtype.blockElementCount - 1) / dtype.blockElementCount * dtype.blockElementCount
            let matrix = EncodedMatrix(dtype, rows: rows, columns: columns, seed: UInt64(columns))
            let weight = try backend.prepare([matrix.tensor])
            for tokens in tokenCounts {
                var numbers = SeededNumbers(UInt64(tokens))
                let x = numbers.normals(tokens * columns).map { $0.rounded(to: backend.linearInputType) }
                let result = try multiply(backend, weight, x)
                for t in 0..<tokens {
                    let row = x[t * columns..<(t + 1) * columns].map(Double.init)
                    for r in 0..<rows {
                        let weights = matrix.values[r * columns..<(r + 1) * columns]
                        let allowed = allowedError(row, weights, dtype, backend.linearInputType)
                        let exact = zip(row, weights).reduce(0) { $0 + $1.0 * $1.1 }
                        worst.note(Double(result[t * rows + r]) - exact, allowed: allowed)
                    }
                }
            }
        }
        return worst.value
    }

    /// The same tokens as from all logits, ties and NaN included, the first time and when a device replays the step.
    private static func greedyError(
        _ backend: any Backend, _ dtype: DType, _ vocab: Int, _ rowCounts: [Int]
    ) throws -> Double {
        let columns = 256
        var worst = WorstError()
        let matrix = EncodedMatrix(dtype, rows: vocab, columns: columns, seed: 3)
        // As a matrix, and as one of an expert, which some devices lay out differently.
        let heads = [try backend.prepare([matrix.tensor]), try backend.prepareExpert([matrix.tensor])]
        for (index, head) in heads.enumerated() {
            for rows in rowCounts {
                var numbers = SeededNumbers(UInt64(rows))
                var x = numbers.normals(rows * columns)
                // All logits of the last row are 0, and of the one before NaN.
                if rows > 1 { x = x.dropLast(columns) + [Float](repeating: 0, count: columns) }
                if rows > 8 { x[(rows - 2) * columns] = .nan }
                let input = try backend.tensor(x, [rows, columns], backend.linearInputType)
                let logits = try backend.allocate([rows, vocab], .f32, purpose: "a check")
                // Shapes that no other check has.
                var shape = StepShape(
                    tokenCount: rows, sequenceCount: rows, sampledRowCount: rows, isDecodeOnly: true,
                    usesAdapters: index == 1)
                var results = SamplingResults(rowCapacity: rows)
                func choose(_ body: () -> Void) throws -> [Int32] {
                    backend.perform(shape, body)
                    backend.sample(logits, Array(repeating: SamplingRow(), count: rows))
                    try backend.collect(into: &results)
                    return (0..<rows).map { results.isFinite[$0] ? results.tokens[$0] : -1 }
                }
                let expected = try choose { backend.linear(input, head, into: logits, mode: .overwrite) }
                shape.samplesGreedily = true
                for _ in 0..<3 {
                    worst.note(try choose { backend.linearToChoose(input, head, into: logits) } == expected)
                }
                worst.note(rows == 1 || expected[rows - 1] == 0)
                worst.note(rows <= 8 || expected[rows - 2] == -1 || backend.linearInputType == .f32)
            }
        }
        return worst.value
    }

    /// Scales of 32 columns, of a few units, of a row: the same product with each of them written out.
    private static func groupError(_ backend: any Backend) throws -> Double {
        var worst = WorstError()
        for (dtype, groupColumns) in [
            (DType.int4, 128), (.int4, 64), (.int8, 608), (.int8, 128), (.e4m3, 128), (.e4m3, 608), (.int4, 608),
        ] {
            let matrix = EncodedMatrix(dtype, rows: 20, columns: 608, seed: 9, groupColumns: groupColumns)
            let weight = try backend.prepare([matrix.tensor])
            for tokens in [2, 70] {
                var numbers = SeededNumbers(UInt64(groupColumns + tokens))
                let x = numbers.normals(tokens * 608).map { $0.rounded(to: backend.linearInputType) }
                let result = try multiply(backend, weight, x)
                for (index, value) in result.enumerated() {
                    let row = x[index / 20 * 608..<(index / 20 + 1) * 608].map(Double.init)
                    let weights = matrix.values[index % 20 * 608..<(index % 20 + 1) * 608]
                    let exact = zip(row, weights).reduce(0) { $0 + $1.0 * $1.1 }
                    worst.note(
                        Double(value) - exact, allowed: allowedError(row, weights, dtype, backend.linearInputType))
                }
            }
        }
        return worst.value
    }

    /// (4√K + 4) · 2⁻²⁴ · Σ|w·x|, and what rounding activations to 8 bits in blocks of 32 may add.
    private static func allowedError(
        _ x: [Double], _ weights: ArraySlice<Double>, _ dtype: DType, _ inputType: DType
    ) -> Double {
        let size = zip(x, weights).reduce(0) { $0 + abs($1.0 * $1.1) }
        // The two terms of a block with a minimum may cancel in the weight but not in the rounding.
        let slack = dtype.hasMinimum ? 4.0 : 1
        var allowed = slack * (4 * Double(x.count).squareRoot() + 4) * 0x1p-24 * size + 1e-30
        // Where products read bf16, these two have become f16.
        if inputType == .bf16, dtype == .q5_1 || dtype == .q2_k { allowed += 0x1p-11 * size }
        guard inputType == .f32, dtype.isQuantized, dtype != .e4m3 else { return allowed }
        for start in stride(from: 0, to: x.count, by: 32) {
            let largest = x[start..<start + 32].map(abs).max() ?? 0
            let block = weights[weights.startIndex + start..<weights.startIndex + start + 32]
            allowed += largest / 254 * 1.01 * block.reduce(0) { $0 + abs($1) }
        }
        return allowed
    }

    private static func linearInvariance(_ backend: any Backend, _ dtype: DType) throws -> Double {
        let (rows, columns) = (48, dtype.blockElementCount > 32 ? 768 : 576)
        let weight = try backend.prepare([EncodedMatrix(dtype, rows: rows, columns: columns, seed: 7).tensor])
        var numbers = SeededNumbers(11)
        let x = numbers.normals(200 * columns)
        let whole = bits(try multiply(backend, weight, x))
        var worst = WorstError()
        for (first, count) in [(0, 1), (199, 1), (3, 2), (5, 8), (17, 9), (40, 16), (60, 33), (100, 64), (20, 65)] {
            let part = try multiply(backend, weight, Array(x[first * columns..<(first + count) * columns]))
            worst.note(bits(part) == Array(whole[first * rows..<(first + count) * rows]))
        }
        return worst.value
    }

    private static func accumulationError(_ backend: any Backend) throws -> Double {
        try max(accumulationError(backend, tokens: 5), accumulationError(backend, tokens: 70))
    }

    private static func accumulationError(_ backend: any Backend, tokens: Int) throws -> Double {
        let columns = 96
        let parts = [
            EncodedMatrix(.q4_1, rows: 21, columns: columns, seed: 1),
            EncodedMatrix(.q8_0, rows: 16, columns: columns, seed: 2),
            EncodedMatrix(.bf16, rows: 3, columns: columns, seed: 3),
        ]
        let rows = parts.reduce(0) { $0 + $1.rows }
        let weight = try backend.prepare(parts.map(\.tensor))
        var numbers = SeededNumbers(3)
        let x = numbers.normals(tokens * columns)
        let before = numbers.normals(tokens * rows)
        let product = try multiply(backend, weight, x)
        let output = try backend.tensor(before, [tokens, rows])
        let input = try backend.tensor(x, [tokens, columns], backend.linearInputType)
        backend.linear(input, weight, into: output, mode: .accumulate)
        try backend.synchronize()
        var worst = WorstError()
        for (sum, (a, b)) in zip(backend.download(output), zip(before, product)) {
            worst.note(Double(sum - (a + b)), allowed: 1e-6 * Double(abs(a) + abs(b)) + 1e-30)
        }
        return worst.value
    }

    /// weight · x for `x` of [tokens, columns], into memory that held NaN.
    static func multiply(_ backend: any Backend, _ weight: PreparedWeight, _ x: [Float]) throws -> [Float] {
        let tokens = x.count / weight.columnCount
        let output = try backend.tensor(
            [Float](repeating: .nan, count: tokens * weight.rowCount), [tokens, weight.rowCount])
        let input = try backend.tensor(x, [tokens, weight.columnCount], backend.linearInputType)
        backend.linear(input, weight, into: output, mode: .overwrite)
        try backend.synchronize()
        return backend.download(output)
    }
}
