// What some architectures need beside Llama's operations: norms of heads and into the residual, biases, other gates,
// functions of elements, rotations that stretch.

import Foundation
import Tensors

extension ConformanceCase {
    static let elementCases: [ConformanceCase] = [
        ConformanceCase("rmsNorm adds to the residual what agrees with f64", isSmall: true, addedNormError),
        ConformanceCase("normalizeHeads agrees with f64 and leaves other heads alone", isSmall: true, headNormError),
        ConformanceCase("addBias adds to every row", isSmall: true, biasError),
        ConformanceCase("apply multiplies and caps", isSmall: true, elementError),
        ConformanceCase("gate by GELU agrees with f64", isSmall: true) { try gateError($0, .geluTanh) },
        ConformanceCase("gate with clamps agrees with f64", isSmall: true) { try gateError($0, .clamped(limit: 7)) },
        ConformanceCase("rotate multiplies what it turns and nothing else", isSmall: true, magnitudeError),
    ]

    private static func addedNormError(_ backend: any Backend) throws -> Double {
        var worst = WorstError()
        for (rows, columns) in [(1, 640), (3, 100), (5, 1030)] {
            var numbers = SeededNumbers(UInt64(columns))
            let (x, weight) = (numbers.normals(rows * columns), numbers.normals(columns))
            let before = numbers.normals(rows * columns)
            let output = try backend.tensor(before, [rows, columns])
            backend.rmsNorm(
                try backend.tensor(x, [rows, columns]), weight: try backend.tensor(weight, [columns]), epsilon: 1e-5,
                into: output, mode: .accumulate)
            try backend.synchronize()
            for (index, value) in backend.download(output).enumerated() {
                let row = x[index / columns * columns..<(index / columns + 1) * columns]
                let normed = normalized(row, weight, epsilon: 1e-5)[index % columns]
                let expected = Double(before[index]) + normed
                worst.note(Double(value) - expected, allowed: 8e-7 * (abs(Double(before[index])) + abs(normed)) + 1e-30)
            }
        }
        return worst.value
    }

    private static func normalized(_ row: ArraySlice<Float>, _ weight: [Float], epsilon: Double) -> [Double] {
        let squares = row.reduce(0.0) { $0 + Double($1) * Double($1) }
        let scale = 1 / (squares / Double(row.count) + epsilon).squareRoot()
        return zip(row, weight).map { Double($0) * scale * Double($1) }
    }

    private static func headNormError(_ backend: any Backend) throws -> Double {
        var worst = WorstError()
        let shapes = [(3, 6, 64, 0, 4), (5, 6, 64, 4, 1), (2, 3, 256, 1, 2), (4, 2, 24, 0, 2)]
        for (rows, heads, headDim, first, count) in shapes {
            var numbers = SeededNumbers(UInt64(heads + headDim))
            let width = heads * headDim
            let (x, weight) = (numbers.normals(rows * width), numbers.normals(headDim))
            let tensor = try backend.tensor(x, [rows, width])
            backend.normalizeHeads(
                tensor, firstHead: first, heads: count, headDim: headDim, weight: try backend.tensor(weight, [headDim]),
                epsilon: 1e-6)
            try backend.synchronize()
            let result = backend.download(tensor)
            for part in 0..<rows * heads {
                let range = part * headDim..<(part + 1) * headDim
                let isNormed = (first..<first + count).contains(part % heads)
                let expected =
                    isNormed ? normalized(x[range], weight, epsilon: 1e-6) : x[range].map { Double($0) }
                for (value, exact) in zip(result[range], expected) {
                    worst.note(Double(value) - exact, allowed: isNormed ? 8e-7 * abs(exact) + 1e-30 : 1e-30)
                }
            }
        }
        return worst.value
    }

    private static func biasError(_ backend: any Backend) throws -> Double {
        var numbers = SeededNumbers(9)
        let (x, bias) = (numbers.normals(7 * 331), numbers.normals(331))
        let tensor = try backend.tensor(x, [7, 331])
        backend.addBias(try backend.tensor(bias, [331]), to: tensor)
        try backend.synchronize()
        let expected = x.enumerated().map { $0.element + bias[$0.offset % 331] }
        return bits(backend.download(tensor)) == bits(expected) ? 0 : .infinity
    }

    private static func elementError(_ backend: any Backend) throws -> Double {
        var worst = WorstError()
        var numbers = SeededNumbers(10)
        var x = numbers.normals(5 * 203).map { $0 * 40 }
        for (index, value) in [0, 1e-20, -1e-4, 0.6, -18.7, 18.8, 1e30, -1e30].enumerated() { x[index] = Float(value) }
        let (multiplied, capped) = (try backend.tensor(x, [5, 203]), try backend.tensor(x, [5, 203]))
        backend.apply(.multiply(25.5), to: multiplied)
        backend.apply(.softCap(30), to: capped)
        try backend.synchronize()
        worst.note(bits(backend.download(multiplied)) == bits(x.map { $0 * 25.5 }))
        for (value, original) in zip(backend.download(capped), x) {
            let expected = 30 * tanh(Double(original) / 30)
            worst.note(Double(value) - expected, allowed: 6e-7 * abs(expected) + 1e-30)
        }
        return worst.value
    }

    private static func gateError(_ backend: any Backend, _ activation: GateActivation) throws -> Double {
        var worst = WorstError()
        for (tokens, ffn) in [(1, 1536), (2, 43), (20, 256)] {
            var numbers = SeededNumbers(UInt64(ffn))
            var x = numbers.normals(tokens * 2 * ffn).map { $0 * 5 }
            for (i, g) in [Float(0), -0.0, 1e-30, -5, -9, 6.9, 7.1, 200, -1e10].enumerated() { x[i] = g }
            let output = try backend.allocate([tokens, ffn], backend.linearInputType, purpose: "a check")
            backend.gate(try backend.tensor(x, [tokens, 2 * ffn]), activation, into: output)
            try backend.synchronize()
            for (index, value) in backend.download(output).enumerated() {
                let place = index / ffn * 2 * ffn + index % ffn
                let (exact, slope) = activated(Double(x[place]), Double(x[place + ffn]), activation)
                // The exponent is rounded before it is raised: its error grows with it.
                worst.note(
                    Double(value) - exact, allowed: (1e-6 + slope + backend.outputRounding) * abs(exact) + 1e-33)
            }
        }
        return worst.value
    }

    /// The gate's result, and the relative error that rounding its exponent may cause.
    private static func activated(
        _ g: Double, _ u: Double, _ activation: GateActivation
    ) -> (exact: Double, slope: Double) {
        switch activation {
        case .silu: return (g / (1 + exp(-g)) * u, 0)
        case .geluTanh:
            let doubled = 2 * (2 / Double.pi).squareRoot() * (g + 0.044715 * g * g * g)
            return (g / (1 + exp(-doubled)) * u, 0x1p-22 * abs(min(doubled, 0)))
        case .clamped(let limit):
            let h = min(g, Double(limit))
            let clamped = max(-Double(limit), min(u, Double(limit)))
            let slope = 0x1p-22 * (abs(min(1.702 * h, 0)) + 1 / abs(clamped + 1))
            return (h / (1 + exp(-1.702 * h)) * (clamped + 1), slope)
        }
    }

    private static func magnitudeError(_ backend: any Backend) throws -> Double {
        var worst = WorstError()
        let (tokens, heads, headDim, half) = (5, 3, 64, 24)
        var numbers = SeededNumbers(12)
        let x = numbers.normals(tokens * heads * headDim)
        let positions = try backend.tensor((0..<Int32(tokens)).map { $0 * 7 })
        let frequencies = try backend.tensor((0..<half).map { 1 / Float(1 + $0) }, [half])
        let turned = try [Float(1), 1.25].map { magnitude in
            let tensor = try backend.tensor(x, [tokens, heads * headDim])
            backend.rotate(
                tensor, heads: heads, headDim: headDim, positions: positions, frequencies: frequencies,
                magnitude: magnitude, layout: .halves)
            try backend.synchronize()
            return backend.download(tensor)
        }
        for index in turned[0].indices {
            let factor = index % headDim < 2 * half ? 1.25 : 1
            worst.note(Double(turned[1][index]) - factor * Double(turned[0][index]), allowed: 1e-6)
        }
        return worst.value
    }
}
