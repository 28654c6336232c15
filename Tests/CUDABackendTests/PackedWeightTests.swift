// What weights take of a device's memory, and what becomes of types that the kernels have no format for.

import CUDABackend
import CUDAEmulator
import Conformance
import Tensors
import Testing

extension EmulatedDevice {
    @Suite(.serialized) struct PackedWeightTests {
        init() { cuda_emulator_reset() }

        /// Bits of a weight on the device, by type and, for f32 scales, by columns that share one.
        @Test(
            arguments: [
                (.bf16, nil, 16), (.q8_0, nil, 8.5), (.q4_0, nil, 4.5), (.q4_1, nil, 5), (.q4_k, nil, 4.625),
                (.q5_k, nil, 5.625), (.q6_k, nil, 6.5625), (.mxfp4, nil, 4.25), (.int4, 128, 4.5),
                (.int4, 2048, 4.03125),
                (.int8, 128, 8.75), (.int8, 2048, 8.046875), (.e4m3, 128, 8.5), (.e4m3, 2048, 8.03125),
                (.q5_0, nil, 8.5), (.iq4_nl, nil, 8.5), (.q3_k, nil, 6.5625), (.iq4_xs, nil, 9.5), (.q5_1, nil, 16),
                (.q2_k, nil, 16),
            ] as [(DType, Int?, Double)])
        func `a weight takes so many bits`(_ type: (dtype: DType, groupColumns: Int?, bits: Double)) throws {
            let (rows, columns) = (64, 2048)
            let matrix = EncodedMatrix(
                type.dtype, rows: rows, columns: columns, seed: 3, groupColumns: type.groupColumns)
            let weight = try EmulatedDevice.backend().prepare([matrix.tensor])
            #expect(Double(weight.byteCount) * 8 / Double(rows * columns) == type.bits)
        }

        @Test func `four bits whose scales no f16 holds become eight, and mean the same`() throws {
            let (rows, columns) = (20, 256)
            var bytes: [UInt8] = []
            var numbers = SeededNumbers(5)
            for _ in 0..<rows * columns / 32 {
                var scale = (numbers.normal() / 8).bitPattern
                for _ in 0..<4 {
                    bytes.append(UInt8(truncatingIfNeeded: scale))
                    scale >>= 8
                }
                // A zero of 16, which GPTQ has, and one of any byte.
                bytes.append(bytes.count % 2 == 0 ? 16 : 200)
                for _ in 0..<16 { bytes.append(UInt8.random(in: 0...255, using: &numbers)) }
            }
            let owner = OwnedBytes(bytes)
            let tensor = unsafe StoredTensor(
                name: "four bits", dtype: .int4, shape: [rows, columns], bytes: owner.bytes, owner: owner)
            let backend = try EmulatedDevice.backend()
            let output = try backend.allocate([rows, columns], .f32, purpose: "a test")
            let tokens = try backend.allocate([rows], .i32, purpose: "a test")
            backend.upload((0..<Int32(rows)).map { $0 }, count: rows, to: tokens)
            backend.embed(tokens, try backend.prepare([tensor]), into: output)
            try backend.synchronize()
            #expect(backend.download(output).map(\.bitPattern) == tensor.dequantized().map(\.bitPattern))
        }
    }
}
