// Mixtures of experts against f64, and each row alone against all together.

import CPUBackend
import Conformance
import Foundation
import Tensors
import Testing

/// A layer of experts and rows that go through it.
private struct ExpertWorld {
    let experts = 5
    let hidden = 32
    let ffn = 24
    let used = 2
    let rows: Int
    let isNormalized: Bool
    let activation: GateActivation
    let x: [Float]
    let logits: [Float]
    let gateUp: [EncodedMatrix]
    let down: [EncodedMatrix]
    let gateUpBias: [Float]
    let downBias: [Float]

    init(rows: Int, isNormalized: Bool, activation: GateActivation) {
        var numbers = SeededNumbers(UInt64(rows))
        self.rows = rows
        self.isNormalized = isNormalized
        self.activation = activation
        x = numbers.normals(rows * hidden)
        logits = numbers.normals(rows * experts).map { $0 * 2 }
        gateUp = (0..<5).map { EncodedMatrix(.f32, rows: 48, columns: 32, seed: $0) }
        down = (0..<5).map { EncodedMatrix(.f32, rows: 32, columns: 24, seed: $0 + 50) }
        gateUpBias = numbers.normals(experts * 2 * ffn)
        downBias = numbers.normals(experts * hidden)
    }

    /// What the backend adds to zeros for the rows from `first` on.
    func run(_ backend: CPUBackend, first: Int, count: Int) throws -> [Float] {
        let weights = ExpertWeights(
            gateUp: try gateUp.map { try backend.prepare([$0.tensor]) },
            down: try down.map { try backend.prepare([$0.tensor]) },
            gateUpBias: try backend.tensor(gateUpBias, [gateUpBias.count]),
            downBias: try backend.tensor(downBias, [downBias.count]))
        let output = try backend.tensor([Float](repeating: 0, count: count * hidden), [count, hidden])
        backend.mixExperts(
            try backend.tensor(Array(x[first * hidden..<(first + count) * hidden]), [count, hidden]),
            logits: try backend.tensor(Array(logits[first * experts..<(first + count) * experts]), [count, experts]),
            weights, routing: ExpertRouting(usedCount: used, isNormalized: isNormalized), activation: activation,
            into: output)
        try backend.synchronize()
        return backend.download(output)
    }

    /// [hidden] of one row in f64, and the sum of the sizes of what was added.
    func exact(_ row: Int) -> (values: [Double], size: Double) {
        let own = logits[row * experts..<(row + 1) * experts].map { Double($0) }
        let total = own.reduce(0) { $0 + exp($1) }
        let chosen = own.indices.sorted { own[$0] > own[$1] }.prefix(used)
        let share = isNormalized ? chosen.reduce(0) { $0 + exp(own[$1]) / total } : 1
        var values = [Double](repeating: 0, count: hidden), size = 0.0
        for expert in chosen {
            let inner = (0..<2 * ffn).map { f in
                (0..<hidden).reduce(Double(gateUpBias[expert * 2 * ffn + f])) {
                    $0 + gateUp[expert].values[f * hidden + $1] * Double(x[row * hidden + $1])
                }
            }
            let gated = (0..<ffn).map { f -> Double in
                let (g, u) = (inner[f], inner[ffn + f])
                if case .clamped(let limit) = activation {
                    let h = min(g, Double(limit)), v = max(-Double(limit), min(u, Double(limit)))
                    return h / (1 + exp(-1.702 * h)) * (v + 1)
                }
                return g / (1 + exp(-g)) * u
            }
            for h in 0..<hidden {
                let y = (0..<ffn).reduce(Double(downBias[expert * hidden + h])) {
                    $0 + down[expert].values[h * ffn + $1] * gated[$1]
                }
                values[h] += exp(own[expert]) / total / share * y
                size += abs(y)
            }
        }
        return (values, size)
    }
}

struct ExpertTests {
    @Test(arguments: instructionSets)
    func `experts agree with f64, and a row does not depend on the others`(_ instructionSet: CPUInstructionSet) throws {
        for (isNormalized, activation) in [(true, GateActivation.silu), (false, .silu), (true, .clamped(limit: 1))] {
            let world = ExpertWorld(rows: 37, isNormalized: isNormalized, activation: activation)
            let backend = try CPUBackend(precision: .float32, instructionSet: instructionSet, threads: 2)
            let together = try world.run(backend, first: 0, count: 37)
            for row in 0..<37 {
                let (exact, size) = world.exact(row)
                let own = Array(together[row * 32..<(row + 1) * 32])
                for (value, expected) in zip(own, exact) {
                    #expect(abs(Double(value) - expected) <= 4e-6 * size)
                }
                #expect(try bits(world.run(backend, first: row, count: 1)) == bits(own), "row \(row)")
            }
        }
    }

    @Test func `in a recorded step experts and what follows run in their turn`() throws {
        let world = ExpertWorld(rows: 64, isNormalized: true, activation: .silu)
        let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: 2)
        let weights = ExpertWeights(
            gateUp: try world.gateUp.map { try backend.prepare([$0.tensor]) },
            down: try world.down.map { try backend.prepare([$0.tensor]) })
        let (x, logits) = (try backend.tensor(world.x, [64, 32]), try backend.tensor(world.logits, [64, 5]))
        func operations(_ output: Tensor) {
            backend.apply(.multiply(2), to: output)
            backend.mixExperts(
                x, logits: logits, weights, routing: ExpertRouting(usedCount: 2, isNormalized: true), activation: .silu,
                into: output)
            backend.apply(.multiply(3), to: output)
        }
        let (whole, single) = (try backend.tensor(world.x, [64, 32]), try backend.tensor(world.x, [64, 32]))
        let shape = StepShape(tokenCount: 64, sequenceCount: 64, sampledRowCount: 1, isDecodeOnly: true)
        backend.perform(shape) { operations(whole) }
        operations(single)
        try backend.synchronize()
        #expect(bits(backend.download(whole)) == bits(backend.download(single)))
    }
}
