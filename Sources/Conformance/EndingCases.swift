// Products and what follows them, in a step and one by one: a backend that does several operations at once has to leave
// the same bits. And products of 8-bit floats whose checkpoint asks for inputs of 8-bit floats.

import Tensors

extension ConformanceCase {
    static let endingCases =
        [1, 3, 8, 64].map { rows in
            ConformanceCase(
                "a layer's products end in a step of \(rows) rows as they do one by one", isSmall: rows == 3
            ) { try endingError($0, rows: rows) }
        } + [
            ConformanceCase("8-bit floats stay within the bound of inputs of 8-bit floats", byteError),
            ConformanceCase("8-bit floats give a row the same bits in any batch", byteInvariance),
        ]

    private static func endingError(_ backend: any Backend, rows: Int) throws -> Double {
        var worst = WorstError()
        for layer in EndedLayer.all(rows: rows) {
            worst.note(try layer.run(on: backend, isStep: true) == layer.run(on: backend, isStep: false))
        }
        return worst.value
    }

    /// Where inputs are quantized their codes have four bits, the last half right, and sums of 128 columns 14.
    private static func byteError(_ backend: any Backend) throws -> Double {
        var worst = WorstError()
        for (rows, columns, group, tokens) in [(64, 256, 128, 3), (70, 1056, 1056, 9), (130, 512, 256, 70)] {
            let matrix = EncodedMatrix(
                .e4m3, rows: rows, columns: columns, seed: 3, groupColumns: group, quantizesInput: true)
            var numbers = SeededNumbers(UInt64(tokens))
            let x = numbers.normals(tokens * columns).map { $0.rounded(to: backend.linearInputType) }
            let results = try multiply(backend, backend.prepare([matrix.tensor]), x)
            for (index, result) in results.enumerated() {
                let products = (0..<columns).map {
                    matrix.values[index % rows * columns + $0] * Double(x[index / rows * columns + $0])
                }
                let size = products.reduce(0) { $0 + abs($1) }
                worst.note(Double(result) - products.reduce(0, +), allowed: (0x1p-4 + 132 * 0x1p-13) * size + 1e-30)
            }
        }
        return worst.value
    }

    private static func byteInvariance(_ backend: any Backend) throws -> Double {
        let (rows, columns) = (150, 928)
        let matrix = EncodedMatrix(
            .e4m3, rows: rows, columns: columns, seed: 3, groupColumns: columns, quantizesInput: true)
        let weight = try backend.prepare([matrix.tensor])
        var numbers = SeededNumbers(9)
        let x = numbers.normals(150 * columns)
        let whole = bits(try multiply(backend, weight, x))
        var worst = WorstError()
        for (first, count) in [(0, 1), (149, 1), (5, 8), (17, 9), (60, 33), (20, 65)] {
            let part = try multiply(backend, weight, Array(x[first * columns..<(first + count) * columns]))
            worst.note(bits(part) == Array(whole[first * rows..<(first + count) * rows]))
        }
        return worst.value
    }
}

/// Products of a layer, each with what follows it.
package struct EndedLayer {
    let rows: Int
    let hidden: Int
    let headDim: Int
    let layout: RotaryLayout
    package let hasBias: Bool
    package var type = DType.bf16
    private let heads = 3
    private let kvHeads = 1
    private let ffn = 104

    package init(
        rows: Int, hidden: Int, headDim: Int, layout: RotaryLayout, hasBias: Bool, type: DType = .bf16
    ) {
        (self.rows, self.hidden, self.headDim, self.layout) = (rows, hidden, headDim, layout)
        (self.hasBias, self.type) = (hasBias, type)
    }

    /// Wide and narrow norms, both layouts; few formats where rows are many.
    package static func all(rows: Int) -> [EndedLayer] {
        let some = [
            EndedLayer(rows: rows, hidden: 576, headDim: 64, layout: .halves, hasBias: false),
            EndedLayer(rows: rows, hidden: 96, headDim: 128, layout: .interleaved, hasBias: true),
            EndedLayer(rows: rows, hidden: 128, headDim: 64, layout: .halves, hasBias: false, type: .e4m3),
        ]
        guard rows <= 8 else { return some }
        return some + [
            EndedLayer(rows: rows, hidden: 576, headDim: 64, layout: .interleaved, hasBias: false, type: .q4_0),
            EndedLayer(rows: rows, hidden: 256, headDim: 64, layout: .halves, hasBias: true, type: .q4_k),
        ]
    }

    /// The bits of everything that is written, by name. `before` and `after` are called around the operations.
    package func run(
        on backend: any Backend, isStep: Bool, before: () -> Void = {}, after: () -> Void = {}
    ) throws -> [String: [UInt32]] {
        var numbers = SeededNumbers(UInt64(rows))
        func tensor(_ rows: Int, _ columns: Int, _ type: DType = .f32) throws -> Tensor {
            try backend.tensor(numbers.normals(rows * columns), [rows, columns], type)
        }
        func vector(_ count: Int) throws -> Tensor { try backend.tensor(numbers.normals(count), [count]) }
        func matrix(_ rows: Int, _ columns: Int, _ seed: UInt64) -> StoredTensor {
            EncodedMatrix(
                type, rows: rows, columns: columns, seed: seed, groupColumns: type == .e4m3 ? columns : nil,
                quantizesInput: true
            ).tensor
        }
        let (width, input) = ((heads + 2 * kvHeads) * headDim, backend.linearInputType)
        // Queries and keys as one, values beside them.
        let qkvWeight = try backend.prepare(
            [matrix((heads + kvHeads) * headDim, hidden, 1), matrix(kvHeads * headDim, hidden, 2)],
            pairs: layout == .halves ? .halves(of: headDim) : .neighbours)
        let outWeight = try backend.prepare([matrix(hidden, hidden, 3)])
        let gateUpWeight = try backend.prepare([matrix(2 * ffn, hidden, 4)], pairs: .halves(of: 2 * ffn))
        let (x, qkv) = (try tensor(rows, hidden, input), try tensor(rows, width))
        let (residual, normed) = (try tensor(rows, hidden), try tensor(rows, hidden, input))
        let (gateUp, gated) = (try tensor(rows, 2 * ffn), try tensor(rows, ffn, input))
        let (qkvBias, outBias, scale) = (try vector(width), try vector(hidden), try vector(hidden))
        let frequencies = try vector(headDim / 2)
        let positions = try backend.tensor((0..<Int32(rows)).map { 1000 - 7 * $0 })
        // Backwards through blocks of 32; one row has no place.
        let slots = try backend.tensor((0..<Int32(rows)).map { $0 == 1 ? -1 : 95 + Int32(rows) - $0 })
        let cache = try backend.allocateKVLayer(
            blockCount: (rows + 95) / 32 + 1, kvHeads: kvHeads, blockSize: 32, headDim: headDim)
        let operations = {
            backend.linear(x, qkvWeight, into: qkv, mode: .overwrite)
            if hasBias { backend.addBias(qkvBias, to: qkv) }
            backend.rotate(
                qkv, heads: heads + kvHeads, headDim: headDim, positions: positions, frequencies: frequencies,
                magnitude: 1.25, layout: layout)
            backend.storeKV(
                qkv, keyOffset: heads * headDim, valueOffset: (heads + kvHeads) * headDim, kvHeads: kvHeads,
                headDim: headDim, slots: slots, cache: cache)
            backend.linear(x, outWeight, into: residual, mode: .accumulate)
            if hasBias { backend.addBias(outBias, to: residual) }
            backend.rmsNorm(residual, weight: scale, epsilon: 1e-5, into: normed)
            guard isStep else {
                backend.linear(normed, gateUpWeight, into: gateUp, mode: .overwrite)
                return backend.gate(gateUp, .silu, into: gated)
            }
            backend.linearGated(normed, gateUpWeight, .silu, scratch: gateUp, into: gated)
        }
        try backend.synchronize()
        before()
        // Of no shape that is captured: other layers have the same.
        let shape = StepShape(tokenCount: rows, sequenceCount: rows, sampledRowCount: 0, isDecodeOnly: true)
        if isStep { backend.perform(shape, operations) } else { operations() }
        after()
        try backend.synchronize()
        var written = ["qkv": qkv, "residual": residual, "normed": normed, "gated": gated]
        // Where inputs are bf16 so is the cache, whose own order does not matter here.
        if input == .bf16 { written.merge(["keys": cache.keys, "values": cache.values]) { first, _ in first } }
        return written.mapValues { bits(backend.download($0)) }
    }
}
