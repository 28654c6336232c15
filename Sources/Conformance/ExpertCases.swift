// mixExperts: against f64, bit for bit whoever else is there, and one expert alone as the network that it is.

import Foundation
import Tensors

extension ConformanceCase {
    static let expertCases =
        [
            ConformanceCase("mixExperts agrees with f64", isSmall: true, mixtureError),
            ConformanceCase("mixExperts gives a row the same bits in any batch", mixtureInvariance),
            ConformanceCase("mixExperts takes the first of equal experts", isSmall: true, tieError),
        ]
        + (weightTypes + [.q4_k, .q5_k, .q6_k, .int4, .int8, .mxfp4, .e4m3]).map { dtype in
            ConformanceCase("an expert of \(dtype.rawValue) gives the bits of a network of its own") {
                try loneExpertError($0, dtype)
            }
        }

    private static func mixtureError(_ backend: any Backend) throws -> Double {
        var worst = WorstError()
        for (isNormalized, activation) in [(true, GateActivation.silu), (false, .silu), (true, .clamped(limit: 1))] {
            let layer = try ExpertLayer(backend, isNormalized: isNormalized, activation: activation)
            for rows in [1, 9, 40] {
                let result = try layer.run(first: 0, count: rows)
                for row in 0..<rows {
                    let (exact, size) = layer.exact(row)
                    for (column, value) in exact.enumerated() {
                        let allowed = size[column] * (1e-5 + 2 * backend.outputRounding)
                        worst.note(Double(result[row * layer.hidden + column]) - value, allowed: allowed)
                    }
                }
            }
        }
        return worst.value
    }

    private static func mixtureInvariance(_ backend: any Backend) throws -> Double {
        let layer = try ExpertLayer(backend, isNormalized: true, activation: .silu)
        let together = try layer.run(first: 0, count: ExpertLayer.rows)
        var worst = WorstError()
        // Few routes, more, and so many that the kernel for prompts takes them.
        for (first, count) in [(0, 1), (149, 1), (3, 2), (9, 7), (20, 40), (60, 90)] {
            let part = try layer.run(first: first, count: count)
            let range = first * layer.hidden..<(first + count) * layer.hidden
            worst.note(bits(part) == bits(together[range]))
        }
        return worst.value
    }

    /// All logits alike: the first experts are used, each with an equal share.
    private static func tieError(_ backend: any Backend) throws -> Double {
        let layer = try ExpertLayer(backend, isNormalized: true, activation: .silu)
        let some = try layer.run(first: 0, count: 4, logits: [Float](repeating: 0.5, count: 4 * layer.experts))
        let ranked = (0..<4).flatMap { _ in (0..<layer.experts).map { $0 < 2 ? Float(0.5) : -100 } }
        return bits(some) == bits(try layer.run(first: 0, count: 4, logits: ranked)) ? 0 : .infinity
    }

    /// One expert with all of the weight is linear, gate and linear.
    private static func loneExpertError(_ backend: any Backend, _ dtype: DType) throws -> Double {
        let (hidden, ffn) = (96, 32)
        func matrix(_ rows: Int, _ columns: Int, _ seed: UInt64) throws -> StoredTensor {
            let columns = (columns + dtype.blockElementCount - 1) / dtype.blockElementCount * dtype.blockElementCount
            return EncodedMatrix(dtype, rows: rows, columns: columns, seed: seed).tensor
        }
        let first = try matrix(ffn, hidden, 1)
        let width = first.shape[1]
        let gateUp = try backend.prepareExpert([first, try matrix(ffn, hidden, 2)])
        let down = try backend.prepareExpert([EncodedMatrix(.bf16, rows: width, columns: ffn, seed: 3).tensor])
        let experts = ExpertWeights(gateUp: [gateUp], down: [down])
        var worst = WorstError()
        for rows in [1, 5, 24, 60] {
            var numbers = SeededNumbers(UInt64(rows))
            let x = try backend.tensor(numbers.normals(rows * width), [rows, width], backend.linearInputType)
            let mixed = try backend.tensor([Float](repeating: 0, count: rows * width), [rows, width])
            backend.mixExperts(
                x, logits: try backend.tensor(numbers.normals(rows), [rows, 1]), experts,
                routing: ExpertRouting(usedCount: 1, isNormalized: true), activation: .silu, into: mixed)
            let inner = try backend.allocate([rows, 2 * ffn], .f32, purpose: "a check")
            let gated = try backend.allocate([rows, ffn], backend.linearInputType, purpose: "a check")
            let single = try backend.tensor([Float](repeating: 0, count: rows * width), [rows, width])
            backend.linear(x, gateUp, into: inner, mode: .overwrite)
            backend.gate(inner, into: gated)
            backend.linear(gated, down, into: single, mode: .accumulate)
            try backend.synchronize()
            worst.note(bits(backend.download(mixed)) == bits(backend.download(single)))
        }
        return worst.value
    }
}

/// A layer of experts on a backend, and rows that go through it.
private struct ExpertLayer {
    static let rows = 150
    let experts = 5
    let hidden = 72
    let ffn = 40
    let used = 2
    let isNormalized: Bool
    let activation: GateActivation
    let backend: any Backend
    /// As the backend reads them.
    let x: [Float]
    let logits: [Float]
    let gates: [EncodedMatrix]
    let ups: [EncodedMatrix]
    let down: [EncodedMatrix]
    let gateUpBias: [Float]
    let downBias: [Float]
    let weights: ExpertWeights

    init(_ backend: any Backend, isNormalized: Bool, activation: GateActivation) throws {
        var numbers = SeededNumbers(17)
        self.isNormalized = isNormalized
        self.activation = activation
        self.backend = backend
        x = numbers.normals(Self.rows * hidden).map { $0.rounded(to: backend.linearInputType) }
        // Most rows like the first experts, so that some have many.
        logits = (0..<Self.rows * 5).map { numbers.normal() * 2 - Float($0 % 5) }
        func matrices(_ rows: Int, _ columns: Int, _ seed: UInt64) -> [EncodedMatrix] {
            (0..<5).map { EncodedMatrix(.bf16, rows: rows, columns: columns, seed: $0 + seed) }
        }
        (gates, ups, down) = (matrices(ffn, hidden, 0), matrices(ffn, hidden, 20), matrices(hidden, ffn, 40))
        gateUpBias = numbers.normals(experts * 2 * ffn)
        downBias = numbers.normals(experts * hidden)
        weights = ExpertWeights(
            gateUp: try zip(gates, ups).map { try backend.prepareExpert([$0.tensor, $1.tensor]) },
            down: try down.map { try backend.prepareExpert([$0.tensor]) },
            gateUpBias: try backend.tensor(gateUpBias, [gateUpBias.count]),
            downBias: try backend.tensor(downBias, [downBias.count]))
    }

    /// What the layer adds to zeros for the rows from `first` on.
    func run(first: Int, count: Int, logits other: [Float]? = nil) throws -> [Float] {
        let output = try backend.tensor([Float](repeating: 0, count: count * hidden), [count, hidden])
        let rows = Array(x[first * hidden..<(first + count) * hidden])
        let chosen = other ?? Array(logits[first * experts..<(first + count) * experts])
        backend.mixExperts(
            try backend.tensor(rows, [count, hidden], backend.linearInputType),
            logits: try backend.tensor(chosen, [count, experts]), weights,
            routing: ExpertRouting(usedCount: used, isNormalized: isNormalized), activation: activation, into: output)
        try backend.synchronize()
        return backend.download(output)
    }

    /// [hidden] of one row in f64, and the sizes of what was added up for it.
    func exact(_ row: Int) -> (values: [Double], sizes: [Double]) {
        let own = logits[row * experts..<(row + 1) * experts].map { Double($0) }
        let total = own.reduce(0) { $0 + exp($1) }
        let chosen = own.indices.sorted { own[$0] > own[$1] }.prefix(used)
        let share = isNormalized ? chosen.reduce(0) { $0 + exp(own[$1]) / total } : 1
        var values = [Double](repeating: 0, count: hidden)
        var sizes = values
        for expert in chosen {
            let weight = exp(own[expert]) / total / share
            let gated = (0..<ffn).map { gatedValue(row, expert, $0) }
            for h in 0..<hidden {
                let bias = Double(downBias[expert * hidden + h])
                let products = (0..<ffn).map { down[expert].values[h * ffn + $0] * gated[$0] }
                values[h] += weight * products.reduce(bias, +)
                sizes[h] += weight * products.reduce(abs(bias)) { $0 + abs($1) }
            }
        }
        return (values, sizes)
    }

    private func gatedValue(_ row: Int, _ expert: Int, _ index: Int) -> Double {
        func inner(_ matrix: EncodedMatrix, _ bias: Float) -> Double {
            (0..<hidden).reduce(Double(bias)) {
                $0 + matrix.values[index * hidden + $1] * Double(x[row * hidden + $1])
            }
        }
        let g = inner(gates[expert], gateUpBias[expert * 2 * ffn + index])
        let u = inner(ups[expert], gateUpBias[expert * 2 * ffn + ffn + index])
        guard case .clamped(let limit) = activation else { return g / (1 + exp(-g)) * u }
        let (h, v) = (min(g, Double(limit)), max(-Double(limit), min(u, Double(limit))))
        return h / (1 + exp(-1.702 * h)) * (v + 1)
    }
}
