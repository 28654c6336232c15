// Products that end in a bias, in heads, in a gate or in a norm: the bits of the operations one by one, fewer launches.

import CUDABackend
import CUDAEmulator
import CUDAKernels
import Conformance
import Tensors
import Testing

extension EmulatedDevice {
    @Suite(.serialized) struct EndingTests {
        init() { cuda_emulator_reset() }

        @Test(arguments: [1, 3, 8, 64], [0, 2] as [UInt64])
        func `a layer's products end as its operations do one by one, bit for bit`(rows: Int, order: UInt64) throws {
            cuda_emulator_set_order(order)
            defer { cuda_emulator_set_order(0) }
            for layer in Layer.all(rows: rows) {
                let (together, launches) = try layer.run(isStep: true)
                let (alone, moreLaunches) = try layer.run(isStep: false)
                for (name, values) in alone {
                    #expect(together[name] == values, "\(name) of \(layer)")
                    #expect(!values.contains { Float(bitPattern: $0).isNaN }, "\(name) of \(layer)")
                }
                // Products of queries, keys and values, of the output, of gates: each with all that follows, but norms
                // of many rows. The cosines are the step's. 8-bit floats are made of each input, but a norm makes its own.
                let isBytes = layer.type == .e4m3
                #expect(launches == 1 + 3 + (isBytes ? 2 : 0) + (rows > Int(CUDA_ENDING_NORM_TOKENS) ? 1 : 0))
                #expect(moreLaunches == (isBytes ? 3 : 0) + (layer.hasBias ? 9 : 7))
            }
        }

        @Test(arguments: [100, 200])
        func `a gate ends wide products too, with the same bits`(rows: Int) throws {
            let layer = Layer(rows: rows, hidden: 192, headDim: 64, layout: .halves, hasBias: false)
            #expect(try layer.run(isStep: true).bits == layer.run(isStep: false).bits)
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

        // MARK: A layer

        struct Layer {
            let rows: Int
            let hidden: Int
            let headDim: Int
            let layout: RotaryLayout
            let hasBias: Bool
            var type = DType.bf16
            var takesHopper = true
            let heads = 3
            let kvHeads = 1
            let ffn = 104

            /// Wide and narrow norms, both layouts, both kinds of kernels; few formats where rows are many.
            static func all(rows: Int) -> [Layer] {
                let some = [
                    Layer(rows: rows, hidden: 576, headDim: 64, layout: .halves, hasBias: false),
                    Layer(rows: rows, hidden: 96, headDim: 128, layout: .interleaved, hasBias: true),
                    Layer(rows: rows, hidden: 128, headDim: 64, layout: .halves, hasBias: false, type: .e4m3),
                    Layer(rows: rows, hidden: 96, headDim: 64, layout: .halves, hasBias: true, takesHopper: false),
                ]
                guard rows <= 8 else { return some }
                return some + [
                    Layer(rows: rows, hidden: 576, headDim: 64, layout: .interleaved, hasBias: false, type: .q4_0),
                    Layer(rows: rows, hidden: 256, headDim: 64, layout: .halves, hasBias: true, type: .q4_k),
                ]
            }

            /// The bits of everything that is written, by name, and how many launches it took.
            func run(isStep: Bool) throws -> (bits: [String: [UInt32]], launches: Int64) {
                var use = KernelUse()
                use.takesHopper = takesHopper
                let backend = try EmulatedDevice.backend(use: use)
                var numbers = SeededNumbers(UInt64(rows))
                func tensor(_ shape: Shape, _ type: DType = .f32) throws -> Tensor {
                    let tensor = try backend.allocate(shape, type, purpose: "a test")
                    backend.upload(numbers.normals(tensor.elementCount), to: tensor)
                    return tensor
                }
                func integers(_ values: [Int32]) throws -> Tensor {
                    let tensor = try backend.allocate([values.count], .i32, purpose: "a test")
                    backend.upload(values, count: values.count, to: tensor)
                    return tensor
                }
                func matrix(_ rows: Int, _ columns: Int, _ seed: UInt64) -> StoredTensor {
                    EncodedMatrix(
                        type, rows: rows, columns: columns, seed: seed, groupColumns: type == .e4m3 ? columns : nil,
                        quantizesInput: true
                    ).tensor
                }
                let width = (heads + 2 * kvHeads) * headDim
                // Queries and keys as one, values beside them.
                let qkvWeight = try backend.prepare(
                    [matrix((heads + kvHeads) * headDim, hidden, 1), matrix(kvHeads * headDim, hidden, 2)],
                    pairs: layout == .halves ? .halves(of: headDim) : .neighbours)
                let outWeight = try backend.prepare([matrix(hidden, hidden, 3)])
                let gateUpWeight = try backend.prepare(
                    [matrix(2 * ffn, hidden, 4)], pairs: .halves(of: 2 * ffn))
                let (x, qkv) = (try tensor([rows, hidden], .bf16), try tensor([rows, width]))
                let (residual, normed) = (try tensor([rows, hidden]), try tensor([rows, hidden], .bf16))
                let (gateUp, gated) = (try tensor([rows, 2 * ffn]), try tensor([rows, ffn], .bf16))
                let (qkvBias, outBias, scale) = (try tensor([width]), try tensor([hidden]), try tensor([hidden]))
                let frequencies = try tensor([headDim / 2])
                let positions = try integers((0..<Int32(rows)).map { 1000 - 7 * $0 })
                // Backwards through two blocks of 48 and more; one row has no place.
                let slots = try integers((0..<Int32(rows)).map { $0 == 1 ? -1 : 95 + Int32(rows) - $0 })
                let cache = try backend.allocateKVLayer(
                    blockCount: 8, kvHeads: kvHeads, blockSize: 48, headDim: headDim)
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
                let before = EmulatedDevice.calls("launch")
                let shape = StepShape(tokenCount: rows, sequenceCount: rows, sampledRowCount: 0, isDecodeOnly: true)
                if isStep { backend.perform(shape, operations) } else { operations() }
                let launches = EmulatedDevice.calls("launch") - before
                try backend.synchronize()
                let written = [
                    "qkv": qkv, "keys": cache.keys, "values": cache.values, "residual": residual, "normed": normed,
                    "gated": gated,
                ]
                return (written.mapValues { backend.download($0).map(\.bitPattern) }, launches)
            }
        }
    }
}
