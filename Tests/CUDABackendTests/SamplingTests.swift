// Sampling on the device beyond what the conformance cases see: a step that samples nothing, and masks, with what lies
// beside the row in memory, against scalar references.

import CUDABackend
import CUDAEmulator
import CUDAKernels
import Conformance
import Foundation
import Tensors
import Testing

extension EmulatedDevice {
    @Suite(.serialized) struct SamplingTests {
        init() { cuda_emulator_reset() }

        // MARK: Through the backend

        @Test func `a step that samples nothing is collected like any other`() throws {
            let backend = try EmulatedDevice.backend()
            let vocab = 50
            let logits = try backend.allocate([2, vocab], .f32, purpose: "a test")
            var numbers = SeededNumbers(1)
            var values = numbers.normals(2 * vocab)
            (values[7], values[vocab + 9]) = (100, 100)
            backend.upload(values, to: logits)
            var results = SamplingResults(rowCapacity: 2)
            let copies = EmulatedDevice.calls("copy_to_host")
            backend.sample(logits.prefix(rows: 2), [SamplingRow(), SamplingRow()])
            backend.sample(logits.prefix(rows: 2), [])
            try backend.collect(into: &results)
            #expect(results.tokens == [7, 9])
            try backend.collect(into: &results)
            #expect(results.tokens == [7, 9])
            #expect(EmulatedDevice.calls("copy_to_host") == copies + 1)
        }

        @Test func `a device that failed says so at the end of a step that samples nothing`() throws {
            let backend = try EmulatedDevice.backend()
            let logits = try backend.allocate([1, 8], .f32, purpose: "a test")
            var results = SamplingResults(rowCapacity: 1)
            backend.sample(logits, [])
            #expect(unsafe cuda_emulator_fail("event_synchronize", 0, 700))
            #expect(throws: BackendError.self) { try backend.collect(into: &results) }
        }

        // MARK: The kernel itself

        @Test(arguments: [100, 1003, 5000])
        func `what a mask rules out is not chosen, greedily or in draws`(vocab: Int) throws {
            var numbers = SeededNumbers(UInt64(vocab))
            let logits = numbers.normals(vocab)
            let mask = (0..<(vocab + 31) / 32).map { _ in UInt32.random(in: 0...UInt32.max, using: &numbers) }
            var row = cuda_sampling_row()
            (row.top_p, row.scored_token, row.alternatives) = (1, -1, 3)
            let raw = logits.indices.sorted { logits[$0] > logits[$1] }
            let order = raw.filter { mask[$0 / 32] >> UInt32($0 % 32) & 1 == 1 }
            let greedy = sample(logits, row, mask: mask)
            #expect(greedy.is_finite == 1 && Int(greedy.token) == order[0])
            // Log-probabilities and alternatives are those of the logits as they were.
            #expect(Int(greedy.alternative_tokens.0) == raw[0] && Int(greedy.alternative_tokens.2) == raw[2])
            // The three best that are left are all that top-k draws from.
            (row.temperature, row.top_k) = (2, 3)
            var drawn: Set<Int> = []
            for position in 0..<60 as Range<UInt64> {
                row.position = position
                drawn.insert(Int(sample(logits, row, mask: mask).token))
            }
            #expect(drawn == Set(order[..<3]))
        }

        @Test func `draws under a mask follow the distribution of what is left`() {
            let logits: [Float] = [0, 1, 2, 1.5, -1, 0.5, 1.9, -0.3]
            var row = cuda_sampling_row()
            (row.temperature, row.top_p, row.seed, row.scored_token, row.alternatives) = (0.8, 1, 5, -1, -1)
            let weights = logits.map { exp(Double($0 / row.temperature)) }
            let total = weights.reduce(0, +) - weights[6]
            let count = 2000
            var drawn = [Double](repeating: 0, count: logits.count)
            for position in 0..<UInt64(count) {
                row.position = position
                drawn[Int(sample(logits, row, mask: [0b1011_1111]).token)] += 1
            }
            #expect(drawn[6] == 0)
            let statistic = logits.indices.filter { $0 != 6 }.reduce(0.0) { sum, token in
                let mean = weights[token] / total * Double(count)
                return sum + (drawn[token] - mean) * (drawn[token] - mean) / mean
            }
            // χ² with 6 degrees of freedom exceeds 22.5 once in a thousand.
            #expect(statistic < 22.5)
        }

        @Test func `one allowed token is chosen at any temperature, none is reported`() {
            var numbers = SeededNumbers(3)
            let vocab = 700
            let logits = numbers.normals(vocab)
            var row = cuda_sampling_row()
            row.scored_token = -1
            (row.top_p, row.alternatives) = (0.9, -1)
            for temperature in [0, 0.01, 1, 100] as [Float] {
                row.temperature = temperature
                for token in [0, 31, 32, 699] {
                    var mask = [UInt32](repeating: 0, count: (vocab + 31) / 32)
                    mask[token / 32] = 1 << UInt32(token % 32)
                    let result = sample(logits, row, mask: mask)
                    #expect(result.is_finite == 1 && result.token == token)
                }
                // Bits beyond the vocabulary allow nothing.
                var nothing = [UInt32](repeating: 0, count: (vocab + 31) / 32)
                nothing[vocab / 32] = ~0 << UInt32(vocab % 32)
                #expect(sample(logits, row, mask: nothing).is_finite == 0)
            }
        }

        /// Runs the kernel on one row; its neighbours in memory are NaN.
        private func sample(
            _ logits: [Float], _ row: cuda_sampling_row, mask: [UInt32]
        ) -> cuda_sampling_result {
            var result = cuda_sampling_result()
            let padded = logits + [.nan, .nan, .nan, .nan]
            unsafe padded.withUnsafeBytes { padded in
                unsafe mask.withUnsafeBytes { maskBytes in
                    unsafe withUnsafeMutablePointer(to: &result) { result in
                        var row = row
                        row.mask = unsafe address(maskBytes.baseAddress)
                        unsafe withUnsafePointer(to: row) { row in
                            let arguments = unsafe cuda_sample_arguments(
                                logits: address(padded.baseAddress), rows: address(row), results: address(result),
                                samples: 0, row_count: 1, vocab: Int32(logits.count))
                            unsafe withUnsafePointer(to: arguments) { arguments in
                                var launch = unsafe cuda_sample_launch(arguments)
                                unsafe #expect(cuda_emulator_launch(&launch, arguments) == 0)
                            }
                        }
                    }
                }
            }
            return result
        }

        private func address(_ pointer: UnsafeRawPointer?) -> cuda_address {
            cuda_address(UInt(bitPattern: pointer))
        }
    }
}
