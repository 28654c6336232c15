// The two calls of ranks that are threads of one process: what they give, in which order they add, and whom they blame.

import CPUBackend
import Foundation
import Tensors
import TestSupport
import Testing

struct CollectivesTests {
    @Test(arguments: [1, 2, 3, 4])
    func `sums are added in the order of ranks, and all have the same bits`(count: Int) throws {
        let group = RankGroup(count: count, deadline: .seconds(20))
        // Whoever adds the large ones last has another result.
        @Sendable func term(_ rank: Int, _ index: Int) -> Float {
            let factors: [Float] = [0.1, 3e7, -3e7, 0.7]
            return factors[rank] * Float(index + 1)
        }
        let outcome = onRanks(group) { rank, backend in
            let x = try backend.allocate([7, 5], .f32, purpose: "test")
            var sums: [[Float]] = []
            for round in 0..<20 {
                backend.upload((0..<35).map { term(rank, $0 + round) }, to: x)
                // Not always the same one comes first.
                if (round + rank) % 3 == 0 { Thread.sleep(forTimeInterval: 0.001) }
                backend.collectives?.sum(x)
                try backend.synchronize()
                sums.append(backend.download(x))
            }
            return sums
        }
        var expected: [[Float]] = []
        for round in 0..<20 {
            expected.append(
                (0..<35).map { index in
                    (1..<max(1, count)).reduce(term(0, index + round)) { $0 + term($1, index + round) }
                })
        }
        for rank in outcome { #expect(try rank.get() == expected) }
    }

    @Test(arguments: [1, 2, 3])
    func `gathered rows have the ranks' parts side by side`(count: Int) throws {
        let outcome = onRanks(RankGroup(count: count, deadline: .seconds(20))) { rank, backend in
            let parts = try backend.allocate([count * 4, 2], .f32, purpose: "test")
            let output = try backend.allocate([4, count * 2], .f32, purpose: "test")
            // Two rows of four, as in a step that samples fewer than it could.
            backend.upload((0..<4).map { Float(100 * rank + $0) }, to: parts.rows(rank * 2..<rank * 2 + 2))
            backend.collectives?.gather(parts.prefix(rows: count * 2), into: output.prefix(rows: 2))
            try backend.synchronize()
            return backend.download(output.prefix(rows: 2))
        }
        var expected: [Float] = []
        for first in [0, 2] {
            for rank in 0..<count { expected += [Float(100 * rank + first), Float(100 * rank + first + 1)] }
        }
        for rank in outcome { #expect(try rank.get() == expected) }
    }

    @Test func `ranks that come for different calls end the group`() throws {
        let group = RankGroup(count: 2, deadline: .seconds(20))
        let outcome = onRanks(group) { rank, backend in
            let x = try backend.allocate([rank + 1, 4], .f32, purpose: "test")
            backend.collectives?.sum(x)
            try backend.synchronize()
        }
        let failure = try #require(group.failure)
        #expect(failure.call == "sum 1" && failure.reason.hasPrefix("came for something else than sum 1 of rank"))
        for rank in outcome { #expect(throws: BackendError.rankFailure(failure)) { try rank.get() } }
    }

    @Test func `a late rank finds that the group has ended, and its memory is still there`() throws {
        let group = RankGroup(count: 3, deadline: .milliseconds(100))
        let outcome = onRanks(group) { rank, backend in
            let x = try backend.allocate([1 << 16], .f32, purpose: "test")
            for round in 0..<50 {
                if rank == 1, round == 20 { Thread.sleep(forTimeInterval: 0.5) }
                backend.collectives?.sum(x)
                try backend.synchronize()
            }
        }
        let failure = try #require(group.failure)
        #expect(
            failure
                == RankFailure(
                    Shard(rank: 1, of: 3), call: "sum 21", elapsed: .milliseconds(100), reason: "did not come"))
        for rank in outcome { #expect(throws: BackendError.rankFailure(failure)) { try rank.get() } }
    }

    @Test func `an embedding table of which there is a part gives zeros for the tokens of the others`() throws {
        let backend = try CPUBackend(precision: .float32, instructionSet: nil, threads: 1)
        let rows = (0..<20 * 8).map { Float($0 + 1) }
        let table = try unsafe rows.withUnsafeBytes { bytes in
            try unsafe backend.prepare([
                StoredTensor(name: "table", dtype: .f32, shape: [20, 8], bytes: bytes, owner: backend)
            ])
        }
        table.firstRow = 40
        let tokens = try backend.allocate([5], .i32, purpose: "test")
        let output = try backend.allocate([5, 8], .f32, purpose: "test")
        backend.upload([39, 40, 59, 60, 0], count: 5, to: tokens)
        backend.embed(tokens, table, into: output)
        let zeros = [Float](repeating: 0, count: 8)
        #expect(backend.download(output) == zeros + rows[..<8] + rows[152...] + zeros + zeros)
    }
}
