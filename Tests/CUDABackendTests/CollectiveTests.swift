// Calls of a group of ranks on the emulated device: through a library that runs on streams, and by the device's own
// kernels. Ranks are threads, and truly wait for one another.

import CUDABackend
import CUDADriver
import CUDAEmulator
import CUDAKernels
import Conformance
import Foundation
import NCCLStub
import Tensors
import Testing

extension EmulatedDevice {
    @Suite(.serialized) struct CollectiveTests {
        init() { cuda_emulator_reset() }

        /// The conformance check on every rank: the worst error, and the sums of its last shape.
        private func check(
            _ count: Int, _ exchange: EmulatedExchange, usesGraphs: Bool = false, order: UInt64 = 0
        ) throws -> [Double] {
            cuda_emulator_set_order(order)
            defer { cuda_emulator_set_order(0) }
            let ranks = try CUDARanks(
                RankGroup(count: count, deadline: .seconds(30)), exchange: exchange.prepare())
            return try onRanks(count) { shard in
                try CollectiveCheck.worstError(
                    EmulatedDevice.backend(ranks, shard, usesGraphs: usesGraphs), isSmall: true)
            }.map { try $0.get() }
        }

        @Test(arguments: [1, 2, 3, 4, 8], EmulatedExchange.allCases)
        func `all ranks get the same sums and rows, and the same again`(
            count: Int, exchange: EmulatedExchange
        ) throws {
            let worst = try check(count, exchange)
            #expect(worst.count == count && worst.allSatisfy { $0 <= 1 }, "\(worst)")
        }

        @Test func `captured calls are replayed, and replayed calls are counted`() throws {
            let worst = try check(2, .nccl, usesGraphs: true)
            #expect(worst.allSatisfy { $0 <= 1 }, "\(worst)")
            let calls = CollectiveCheck.smallShapes.count * 7
            #expect(nccl_stub_calls_done() == calls)
        }

        @Test(arguments: [1, 2] as [UInt64])
        func `sums are right in any order of threads`(order: UInt64) throws {
            let worst = try check(3, .oneDevice, order: order)
            #expect(worst.allSatisfy { $0 <= 1 }, "\(worst)")
        }

        @Test func `a device adds for its ranks in their order`() throws {
            let ranks = try CUDARanks(
                RankGroup(count: 3, deadline: .seconds(30)), exchange: EmulatedExchange.oneDevice.prepare())
            let sums = try onRanks(3) { shard in
                let backend = try EmulatedDevice.backend(ranks, shard)
                let x = try backend.allocate([7, 331], .f32, purpose: "a test")
                backend.upload(CollectiveCheck.values(rank: shard.rank, 7 * 331), to: x)
                backend.collectives?.sum(x)
                try backend.synchronize()
                return backend.download(x).map(\.bitPattern)
            }.map { try $0.get() }
            let inputs = (0..<3).map { CollectiveCheck.values(rank: $0, 7 * 331) }
            let expected = inputs[0].indices.map { (inputs[0][$0] + inputs[1][$0]) + inputs[2][$0] }
            #expect(sums == Array(repeating: expected.map(\.bitPattern), count: 3))
        }

        @Test(arguments: [false, true])
        func `a group of one goes through the kernels of many`(usesGraphs: Bool) throws {
            let ranks = try CUDARanks(RankGroup(count: 1, deadline: .seconds(30)), exchange: .peers)
            let backend = try EmulatedDevice.backend(ranks, .whole, usesGraphs: usesGraphs)
            #expect(try CollectiveCheck.worstError(backend, isSmall: true) <= 1)
        }

        @Test(arguments: [(2, 0, 5_000), (4, 3, 200_003), (8, 5, 4)] as [(Int32, Int32, Int64)], [0, 1] as [UInt64])
        func `a rank adds and gathers what the others have left`(
            _ call: (ranks: Int32, rank: Int32, count: Int64), order: UInt64
        ) {
            cuda_emulator_set_order(order)
            defer { cuda_emulator_set_order(0) }
            #expect(cuda_example_meet_alone(call.ranks, call.rank, call.count, -1) == 0)
        }

        @Test func `a kernel that waits in vain says for whom, and ends`() {
            #expect(cuda_example_meet_alone(4, 1, 5_000, 3) == -4)
        }

        /// A matrix cut by its outputs, then one cut by its inputs, and the sum: by calls of the library, on the host.
        @Test(arguments: [1, 2, 4]) func `a product in parts is whole after the library's sum`(count: Int) throws {
            nccl_stub_reset(nil)
            var numbers = SeededNumbers(3)
            let (width, inner) = (24, 32)
            let (x, up) = (numbers.normals(width), numbers.normals(inner * width))
            let down = numbers.normals(width * inner)
            @Sendable func features(_ range: Range<Int>) -> [Float] {
                range.map { row in max(0, (0..<width).reduce(0) { $0 + up[row * width + $1] * x[$1] }) }
            }
            @Sendable func output(_ range: Range<Int>) -> [Float] {
                let values = features(range)
                return (0..<width).map { row in
                    zip(range, values).reduce(0) { $0 + down[row * inner + $1.0] * $1.1 }
                }
            }
            var identity = nccl_identity()
            let calls = unsafe try #require(nccl_stub_calls())
            unsafe #expect(calls.pointee.make_identity(&identity) == NCCL_SUCCESS)
            let sums = try onRanks(count) { [identity] shard in
                var identity = identity
                var communicator: nccl_communicator?
                let started = unsafe nccl_start_rank(
                    nccl_stub_calls(), &communicator, Int32(count), &identity, Int32(shard.rank))
                #expect(started == NCCL_IN_PROGRESS)
                let part = inner / count
                var y = output(shard.rank * part..<(shard.rank + 1) * part)
                let added = unsafe y.withUnsafeMutableBytes { y in
                    unsafe nccl_stub_calls().pointee.all_reduce(
                        y.baseAddress, y.baseAddress, width, Int32(NCCL_FLOAT32), Int32(NCCL_SUM), communicator, nil)
                }
                #expect(added == NCCL_SUCCESS)
                return y
            }.map { try $0.get() }
            for (one, whole) in zip(sums[0], output(0..<inner)) { #expect(abs(one - whole) < 1e-4) }
            #expect(sums.allSatisfy { $0.map(\.bitPattern) == sums[0].map(\.bitPattern) })
        }

        @Test(arguments: [(2, 300_000), (3, 700_000), (3, 5_000), (4, 1), (8, 90_000)] as [(Int32, Int64)])
        func `ranks that read each other's memory add in the order of ranks`(_ ranks: Int32, _ most: Int64) {
            let calls: Int32 = most > 100_000 ? 12 : 60
            #expect(cuda_example_meet(ranks, calls, most, 5, -1) == 0)
        }

        /// Rows of a warp, of a block, and of a block that takes several rounds; with 8-bit floats of each.
        @Test(
            arguments: [(1, 0, 3, 256), (2, 1, 1, 512), (4, 2, 5, 516), (8, 7, 2, 4096), (2, 0, 64, 36)]
                as [(Int32, Int32, Int32, Int32)], [0, 1] as [UInt64])
        func `a sum that ends in a norm has the bits of the sum and the norm`(
            _ call: (ranks: Int32, rank: Int32, rows: Int32, columns: Int32), order: UInt64
        ) {
            cuda_emulator_set_order(order)
            defer { cuda_emulator_set_order(0) }
            #expect(cuda_all_reduce_norm_fits(Int64(call.rows), Int64(call.columns), call.ranks) != 0)
            #expect(cuda_example_sum_and_norm(call.ranks, call.rank, call.rows, call.columns) == 0)
        }

        @Test func `long messages, many rows and odd ones are summed and normalized one after the other`() {
            #expect(cuda_all_reduce_norm_fits(64, 4096, 2) != 0 && cuda_all_reduce_norm_fits(65, 4096, 2) == 0)
            #expect(cuda_all_reduce_norm_fits(13, 4096, 8) != 0 && cuda_all_reduce_norm_fits(14, 4096, 8) == 0)
            #expect(cuda_all_reduce_norm_fits(1, 4098, 2) == 0)
        }

        /// In a step, and one by one: the sum waits for what follows it only in a step.
        @Test func `a sum is held back for its norm, and launched alone where something else follows`() throws {
            let ranks = try CUDARanks(RankGroup(count: 1, deadline: .seconds(30)), exchange: .peers)
            let backend = try EmulatedDevice.backend(ranks, .whole)
            var numbers = SeededNumbers(11)
            let (start, weights) = (numbers.normals(3 * 64), numbers.normals(64))
            let weight = try backend.allocate([64], .f32, purpose: "a test")
            backend.upload(weights, to: weight)
            let shape = StepShape(tokenCount: 3, sequenceCount: 3, sampledRowCount: 0, isDecodeOnly: true)
            func run(isStep: Bool, isApart: Bool) throws -> (values: [[Float]], launches: Int64) {
                let x = try backend.allocate([3, 64], .f32, purpose: "a test")
                let normed = try backend.allocate([3, 64], .bf16, purpose: "a test")
                backend.upload(start, to: x)
                let operations = {
                    backend.collectives?.sum(x)
                    if isApart { backend.apply(.multiply(2), to: x) }
                    backend.rmsNorm(x, weight: weight, epsilon: 1e-5, into: normed)
                    // A sum that nothing follows.
                    backend.collectives?.sum(x)
                }
                let before = EmulatedDevice.calls("launch")
                if isStep { backend.perform(shape, operations) } else { operations() }
                try backend.synchronize()
                let launches = EmulatedDevice.calls("launch") - before
                return ([backend.download(x), backend.download(normed)], launches)
            }
            for isApart in [false, true] {
                let (together, alone) = (
                    try run(isStep: true, isApart: isApart), try run(isStep: false, isApart: isApart)
                )
                #expect(together.values == alone.values)
                #expect(alone.launches == (isApart ? 4 : 3) && together.launches == (isApart ? 4 : 2))
            }
        }

        @Test func `ranks that wait for one that is gone go on when they are told to`() {
            #expect(cuda_example_meet(3, 7, 3000, 6, 1) == 0)
        }
    }
}
