// The operations that treat rows on their own, against f64.

import CPUBackend
import Conformance
import Foundation
import Tensors
import Testing

struct ElementwiseTests {
    @Test(arguments: instructionSets)
    func `rmsNorm agrees with f64`(_ instructionSet: CPUInstructionSet) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 2)
        for (tokens, hidden) in [(1, 576), (3, 100), (5, 7), (80, 576)] {
            var numbers = SeededNumbers(UInt64(hidden))
            let x = numbers.normals(tokens * hidden), weight = numbers.normals(hidden)
            let output = try backend.allocate([tokens, hidden], .f32, purpose: "a test")
            backend.rmsNorm(
                try backend.tensor(x, [tokens, hidden]), weight: try backend.tensor(weight, [hidden]), epsilon: 1e-5,
                into: output)
            let result = backend.download(output)
            for t in 0..<tokens {
                let row = x[t * hidden..<(t + 1) * hidden].map(Double.init)
                let scale = 1 / (row.reduce(0) { $0 + $1 * $1 } / Double(hidden) + 1e-5).squareRoot()
                for k in 0..<hidden {
                    let expected = row[k] * scale * Double(weight[k])
                    #expect(abs(Double(result[t * hidden + k]) - expected) <= 4e-7 * abs(expected) + 1e-30)
                }
            }
        }
    }

    @Test(arguments: instructionSets)
    func `gate agrees with f64 from the smallest to the largest inputs`(_ instructionSet: CPUInstructionSet) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 2)
        for (tokens, ffn) in [(1, 1536), (2, 37), (20, 1536)] {
            var numbers = SeededNumbers(UInt64(ffn))
            var x = numbers.normals(tokens * 2 * ffn).map { $0 * 20 }
            for (i, g) in [Float(0), -0.0, 1e-30, -86, -88, -95, 88, 200, -1e30].enumerated() { x[i] = g }
            let output = try backend.allocate([tokens, ffn], .f32, purpose: "a test")
            backend.gate(try backend.tensor(x, [tokens, 2 * ffn]), into: output)
            let result = backend.download(output)
            for t in 0..<tokens {
                for k in 0..<ffn {
                    let g = Double(x[t * 2 * ffn + k]), u = Double(x[t * 2 * ffn + ffn + k])
                    let expected = g / (1 + exp(-g)) * u
                    let error = abs(Double(result[t * ffn + k]) - expected)
                    #expect(error <= 5e-7 * abs(expected) + 1e-35, "silu(\(g)) · \(u)")
                }
            }
        }
    }

    @Test(arguments: instructionSets, [RotaryLayout.interleaved, .halves])
    func `rotate turns the right pairs by the rounded angle, at positions of any size`(
        _ instructionSet: CPUInstructionSet, _ layout: RotaryLayout
    ) throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: instructionSet, threads: 2)
        for (headDim, rotary, tokens) in [(64, 64, 5), (80, 32, 3), (64, 64, 100)] {
            let heads = 12, width = heads * headDim + 24, half = rotary / 2
            var numbers = SeededNumbers(UInt64(tokens))
            let x = numbers.normals(tokens * width)
            let positions = (0..<tokens).map { Int32($0 * $0 * 37 % 100_000) }
            let frequencies = (0..<half).map { powf(10_000, -Float(2 * $0) / Float(rotary)) }
            let tensor = try backend.tensor(x, [tokens, width])
            backend.rotate(
                tensor, heads: heads, headDim: headDim, positions: try backend.tensor(positions),
                frequencies: try backend.tensor(frequencies, [half]), layout: layout)
            let result = backend.download(tensor)
            var expected = x.map(Double.init)
            for t in 0..<tokens {
                for h in 0..<heads {
                    for i in 0..<half {
                        let base = t * width + h * headDim
                        let (a, b) =
                            layout == .interleaved ? (base + 2 * i, base + 2 * i + 1) : (base + i, base + half + i)
                        let angle = Double(Float(positions[t]) * frequencies[i])
                        let (first, second) = (Double(x[a]), Double(x[b]))
                        expected[a] = first * cos(angle) - second * sin(angle)
                        expected[b] = second * cos(angle) + first * sin(angle)
                    }
                }
            }
            let worst = zip(result, expected).map { abs(Double($0) - $1) }.max() ?? 0
            #expect(worst < 1e-6)
        }
    }

    @Test func `rotate notices new positions and new frequencies`() throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: 1)
        let frequencies = try backend.tensor([1, 0.5], [2])
        func rotated(_ position: Int32, _ frequencies: Tensor) throws -> [Float] {
            let x = try backend.tensor([1, 2, 3, 4], [1, 4])
            backend.rotate(
                x, heads: 1, headDim: 4, positions: try backend.tensor([position]), frequencies: frequencies,
                layout: .halves)
            return backend.download(x)
        }
        #expect(try rotated(0, frequencies) == [1, 2, 3, 4])
        let turned = try rotated(3, frequencies)
        #expect(turned != [1, 2, 3, 4])
        #expect(try rotated(3, frequencies) == turned)
        #expect(try rotated(3, try backend.tensor([1, 0.25], [2])) != turned)
        #expect(try rotated(0, frequencies) == [1, 2, 3, 4])
    }

    @Test(arguments: instructionSets, [DType.f32, .f16, .bf16, .q8_0, .q4_0, .q4_1])
    func `embed reads rows back exactly, whatever the type`(
        _ instructionSet: CPUInstructionSet, _ dtype: DType
    ) throws {
        for precision in ComputePrecision.allCases {
            let backend = try CPUBackend(precision: precision, instructionSet: instructionSet, threads: 2)
            let parts = [
                EncodedMatrix(dtype, rows: 53, columns: 96, seed: 4),
                EncodedMatrix(.q8_0, rows: 10, columns: 96, seed: 5),
            ]
            let table = try backend.prepare(parts.map(\.tensor))
            for count in [1, 40] {
                let tokens = (0..<count).map { Int32(($0 * 17 + 60) % 63) }
                let output = try backend.allocate([count, 96], .f32, purpose: "a test")
                backend.embed(try backend.tensor(tokens), table, into: output)
                let values = parts.flatMap(\.values)
                // Q4_1's product and sum round separately, as the reference implementations do.
                let expected = tokens.flatMap { values[Int($0) * 96..<(Int($0) + 1) * 96] }
                for (value, exact) in zip(backend.download(output), expected) {
                    #expect(abs(Double(value) - exact) <= (dtype == .q4_1 ? 1e-6 * (abs(exact) + 1) : 0))
                }
            }
        }
    }

    @Test func `gatherRows copies the rows asked for`() throws {
        let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: 1)
        let x = try backend.tensor((0..<12).map(Float.init), [4, 3])
        let output = try backend.allocate([3, 3], .f32, purpose: "a test")
        backend.gatherRows(x, rows: try backend.tensor([3, 0, 3]), into: output)
        #expect(backend.download(output) == [9, 10, 11, 0, 1, 2, 9, 10, 11])
    }
}
