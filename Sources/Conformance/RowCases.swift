// embed, gatherRows, rmsNorm, gate, rotate.

import Foundation
import Tensors

extension ConformanceCase {
    static let rowCases: [ConformanceCase] =
        weightTypes.map { dtype in
            ConformanceCase("embed reads \(dtype.rawValue) rows exactly", isSmall: dtype == .q4_1) { backend in
                let matrix = EncodedMatrix(dtype, rows: 53, columns: 96, seed: 4)
                let tokens = (0..<41).map { Int32(($0 * 17 + 50) % 53) }
                let output = try backend.allocate([tokens.count, 96], .f32, purpose: "a check")
                backend.embed(try backend.tensor(tokens), try backend.prepare([matrix.tensor]), into: output)
                try backend.synchronize()
                var worst = WorstError()
                for (index, value) in backend.download(output).enumerated() {
                    let exact = matrix.values[Int(tokens[index / 96]) * 96 + index % 96]
                    // A block's minimum and its product round separately, as the reference implementations do.
                    worst.note(Double(value) - exact, allowed: dtype == .q4_1 ? 1e-6 * (abs(exact) + 1) : 1e-30)
                }
                return worst.value
            }
        } + [
            ConformanceCase("gatherRows copies the rows asked for", isSmall: true) { backend in
                let x = try backend.tensor((0..<400).map(Float.init), [4, 100])
                let output = try backend.allocate([3, 100], .f32, purpose: "a check")
                backend.gatherRows(x, rows: try backend.tensor([3, 0, 3]), into: output)
                try backend.synchronize()
                let expected = [3, 0, 3].flatMap { row in (0..<100).map { Float(row * 100 + $0) } }
                return backend.download(output) == expected ? 0 : .infinity
            },
            ConformanceCase("rmsNorm agrees with f64", isSmall: true, rmsNormError),
            ConformanceCase("gate agrees with f64 from the smallest to the largest inputs", isSmall: true, gateError),
            ConformanceCase("rotate turns interleaved pairs at positions of any size", isSmall: true) {
                try rotateError($0, .interleaved)
            },
            ConformanceCase("rotate turns halves at positions of any size") { try rotateError($0, .halves) },
        ]

    private static func rmsNormError(_ backend: any Backend) throws -> Double {
        var worst = WorstError()
        for (tokens, hidden) in [(1, 576), (3, 104), (80, 576), (2, 4096)] {
            var numbers = SeededNumbers(UInt64(hidden))
            let x = numbers.normals(tokens * hidden)
            let weight = numbers.normals(hidden)
            let output = try backend.allocate([tokens, hidden], backend.linearInputType, purpose: "a check")
            backend.rmsNorm(
                try backend.tensor(x, [tokens, hidden]), weight: try backend.tensor(weight, [hidden]), epsilon: 1e-5,
                into: output)
            try backend.synchronize()
            let result = backend.download(output)
            for t in 0..<tokens {
                let row = x[t * hidden..<(t + 1) * hidden].map(Double.init)
                let scale = 1 / (row.reduce(0) { $0 + $1 * $1 } / Double(hidden) + 1e-5).squareRoot()
                for k in 0..<hidden {
                    let expected = row[k] * scale * Double(weight[k])
                    worst.note(
                        Double(result[t * hidden + k]) - expected,
                        allowed: (8e-7 + backend.outputRounding) * abs(expected) + 1e-30)
                }
            }
        }
        return worst.value
    }

    private static func gateError(_ backend: any Backend) throws -> Double {
        var worst = WorstError()
        for (tokens, ffn) in [(1, 1536), (2, 40), (20, 1536)] {
            var numbers = SeededNumbers(UInt64(ffn))
            var x = numbers.normals(tokens * 2 * ffn).map { $0 * 20 }
            for (i, g) in [Float(0), -0.0, 1e-30, -80, -86, 88, 200, -1e30].enumerated() { x[i] = g }
            let output = try backend.allocate([tokens, ffn], backend.linearInputType, purpose: "a check")
            backend.gate(try backend.tensor(x, [tokens, 2 * ffn]), into: output)
            try backend.synchronize()
            let result = backend.download(output)
            for t in 0..<tokens {
                for k in 0..<ffn {
                    let g = Double(x[t * 2 * ffn + k])
                    let expected = g / (1 + exp(-g)) * Double(x[t * 2 * ffn + ffn + k])
                    worst.note(
                        Double(result[t * ffn + k]) - expected,
                        allowed: (1e-6 + backend.outputRounding) * abs(expected) + 1e-33)
                }
            }
        }
        return worst.value
    }

    private static func rotateError(_ backend: any Backend, _ layout: RotaryLayout) throws -> Double {
        var worst = WorstError()
        for (headDim, rotary, tokens) in [(64, 64, 5), (80, 32, 3), (128, 128, 100)] {
            let (heads, half) = (12, rotary / 2)
            let width = heads * headDim + 24
            var numbers = SeededNumbers(UInt64(tokens))
            let x = numbers.normals(tokens * width)
            let positions = (0..<tokens).map { Int32($0 * $0 * 37 % 100_000) }
            let frequencies = (0..<half).map { powf(10_000, -Float(2 * $0) / Float(rotary)) }
            let tensor = try backend.tensor(x, [tokens, width])
            backend.rotate(
                tensor, heads: heads, headDim: headDim, positions: try backend.tensor(positions),
                frequencies: try backend.tensor(frequencies, [half]), layout: layout)
            try backend.synchronize()
            var expected = x.map(Double.init)
            for t in 0..<tokens {
                for pair in 0..<heads * half {
                    let (base, i) = (t * width + pair / half * headDim, pair % half)
                    let (a, b) = layout == .interleaved ? (base + 2 * i, base + 2 * i + 1) : (base + i, base + half + i)
                    let angle = Double(Float(positions[t]) * frequencies[i])
                    expected[a] = Double(x[a]) * cos(angle) - Double(x[b]) * sin(angle)
                    expected[b] = Double(x[b]) * cos(angle) + Double(x[a]) * sin(angle)
                }
            }
            for (value, exact) in zip(backend.download(tensor), expected) {
                worst.note(Double(value) - exact, allowed: 1.5e-6)
            }
        }
        return worst.value
    }
}

/// The types of weights that most files have.
let weightTypes: [DType] = [.f32, .f16, .bf16, .q8_0, .q4_0, .q4_1]

/// Those that fewer have.
package let furtherWeightTypes: [DType] = [
    .q5_0, .q5_1, .q2_k, .q3_k, .q4_k, .q5_k, .q6_k, .iq4_nl, .iq4_xs, .mxfp4, .int4, .int8,
    .e4m3,
]
