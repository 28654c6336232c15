// Products that end in a bias, in heads, in a gate or in a norm: the bits of the operations one by one (Conformance has the
// layer), and fewer launches.

import CUDABackend
import CUDAEmulator
import CUDAKernels
import Conformance
import Tensors
import Testing

extension EmulatedDevice {
    @Suite(.serialized) struct EndingTests {
        init() { cuda_emulator_reset() }

        @Test(arguments: [1, 3, 8, 64], [true, false])
        func `a layer's products end as its operations do one by one, in fewer launches`(
            rows: Int, takesHopper: Bool
        ) throws {
            var use = KernelUse()
            use.takesHopper = takesHopper
            for layer in EndedLayer.all(rows: rows) {
                let backend = try EmulatedDevice.backend(use: use)
                func run(isStep: Bool) throws -> (bits: [String: [UInt32]], launches: Int64) {
                    var launches: Int64 = 0
                    let bits = try layer.run(
                        on: backend, isStep: isStep, before: { launches = EmulatedDevice.calls("launch") },
                        after: { launches = EmulatedDevice.calls("launch") - launches })
                    return (bits, launches)
                }
                let (together, alone) = (try run(isStep: true), try run(isStep: false))
                for (name, values) in alone.bits {
                    #expect(together.bits[name] == values, "\(name) of \(layer)")
                    #expect(!values.contains { Float(bitPattern: $0).isNaN }, "\(name) of \(layer)")
                }
                // Products of queries, keys and values, of the output, of gates: each with all that follows, but norms
                // of many rows. The cosines are the step's. 8-bit floats are made of each input, but a norm makes its own.
                let isBytes = layer.type == .e4m3 && takesHopper
                #expect(
                    together.launches == 1 + 3 + (isBytes ? 2 : 0) + (rows > Int(CUDA_ENDING_NORM_TOKENS) ? 1 : 0))
                #expect(alone.launches == (isBytes ? 3 : 0) + (layer.hasBias ? 9 : 7))
            }
        }

        @Test(arguments: [100, 200])
        func `a gate ends wide products too, with the same bits`(rows: Int) throws {
            let layer = EndedLayer(rows: rows, hidden: 192, headDim: 64, layout: .halves, hasBias: false)
            let backend = try EmulatedDevice.backend()
            #expect(try layer.run(on: backend, isStep: true) == layer.run(on: backend, isStep: false))
        }

        @Test func `what comes between a product and its ending keeps them apart`() throws {
            let backend = try EmulatedDevice.backend()
            var numbers = SeededNumbers(7)
            let weight = try backend.prepare([EncodedMatrix(.bf16, rows: 64, columns: 64, seed: 1).tensor])
            let x = try backend.allocate([2, 64], .bf16, purpose: "a test")
            backend.upload(numbers.normals(128), to: x)
            let scale = try backend.allocate([64], .f32, purpose: "a test")
            backend.upload(numbers.normals(64), to: scale)
            let start = numbers.normals(128)
            var bits: [[Float]] = []
            for isStep in [true, false] {
                let hidden = try backend.allocate([2, 64], .f32, purpose: "a test")
                let normed = try backend.allocate([2, 64], .bf16, purpose: "a test")
                backend.upload(start, to: hidden)
                let operations = {
                    backend.linear(x, weight, into: hidden, mode: .accumulate)
                    backend.apply(.multiply(3), to: hidden)
                    backend.rmsNorm(hidden, weight: scale, epsilon: 1e-5, into: normed)
                    // A product that nothing follows.
                    backend.linear(normed, weight, into: hidden, mode: .overwrite)
                }
                let shape = StepShape(tokenCount: 2, sequenceCount: 2, sampledRowCount: 0, isDecodeOnly: true)
                if isStep { backend.perform(shape, operations) } else { operations() }
                try backend.synchronize()
                bits += [backend.download(hidden), backend.download(normed)]
            }
            #expect(bits[0] == bits[2] && bits[1] == bits[3])
        }

        @Test func `rows are packed so that pairs are eight apart, each once`() {
            for (pairs, rows) in [(0, 48), (1, 64), (8, 64), (32, 192), (64, 256), (48, 96)] as [(Int32, Int32)] {
                let order = (0..<rows).map { cuda_paired_row(pairs, $0) }
                #expect(order.sorted() == Array(0..<rows))
                for packed in 0..<rows where packed % 16 < 8 {
                    let apart = order[Int(packed) + 8] - order[Int(packed)]
                    #expect(apart == (pairs == 0 ? 8 : pairs), "pairs \(pairs), place \(packed)")
                }
            }
        }
    }
}
