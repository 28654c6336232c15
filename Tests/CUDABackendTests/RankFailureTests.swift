// What goes wrong in a group of ranks ends it for all of them, within the deadline, with one sentence.

import CUDABackend
import CUDADriver
import CUDAEmulator
import Foundation
import NCCLStub
import Tensors
import Testing

extension EmulatedDevice {
    @Suite(.serialized) struct RankFailureTests {
        init() { cuda_emulator_reset() }

        /// Three steps of two sums each on two ranks, the second of which `stays` for so many.
        /// - Returns: what each rank ended with, "" for nothing.
        private func run(
            _ exchange: EmulatedExchange = .nccl, deadline: Duration = .milliseconds(300), stays steps: Int = 3,
            prepare: () -> Void = {}
        ) throws -> [String] {
            let ranks = try CUDARanks(RankGroup(count: 2, deadline: deadline), exchange: exchange.prepare())
            prepare()
            let ends = onRanks(2) { shard in
                let backend = try EmulatedDevice.backend(ranks, shard)
                let x = try backend.allocate([4, 8], .f32, purpose: "a test")
                backend.upload([Float](repeating: 1, count: 32), to: x)
                for _ in 0..<(shard.rank == 1 ? steps : 3) {
                    backend.collectives?.sum(x)
                    backend.collectives?.sum(x)
                    try backend.synchronize()
                }
            }
            return ends.map { end in
                if case .failure(let error) = end { "\(error)" } else { "" }
            }
        }

        /// The failure without its time.
        private func untimed(_ sentence: String) -> String {
            sentence.replacing(/after [0-9.]+ s/, with: "after … s")
        }

        @Test func `a healthy group ends well, and leaves the library in order`() throws {
            #expect(try run(deadline: .seconds(20)) == ["", ""])
            #expect(nccl_stub_calls_done() == 6 && nccl_stub_aborted() == 0)
        }

        @Test(arguments: EmulatedExchange.allCases)
        func `a rank that ends is named by the others within the deadline`(_ exchange: EmulatedExchange) throws {
            let start = ContinuousClock.now
            let ends = try run(exchange, stays: 1)
            #expect(start.duration(to: .now) < .seconds(5))
            let call = exchange == .nccl ? "call 3" : "sum 3"
            #expect(untimed(ends[0]) == "Rank 1 of 2 ended the group in \(call) after … s: it did not come.")
            #expect(ends[1] == "")
        }

        @Test func `a rank whose device hangs ends the group`() throws {
            let ends = try run { nccl_stub_fail(1, Int32(NCCL_STUB_HANGS), 2, 0) }
            #expect(ends[0] == ends[1] && ends[0].contains("asked for all calls, and its device did not end them."))
            #expect(nccl_stub_calls_done() == 2 && nccl_stub_aborted() == 2)
        }

        @Test func `an error that the library hears of ends the group before the deadline`() throws {
            let start = ContinuousClock.now
            let ends = try run(deadline: .seconds(30)) { nccl_stub_fail(1, Int32(NCCL_STUB_IS_LOST), 3, 0) }
            #expect(start.duration(to: .now) < .seconds(10))
            #expect(
                untimed(ends[0]) == "Rank 0 of 2 ended the group in a step after … s: it met an error of NCCL "
                    + "(remote process exited or there was a network error).")
            #expect(ends[1] == ends[0] && nccl_stub_aborted() == 2)
        }

        @Test func `a call that the library refuses ends the group`() throws {
            let ends = try run(deadline: .seconds(30)) { nccl_stub_fail(1, Int32(NCCL_STUB_REFUSES), 3, 0) }
            #expect(
                untimed(ends[1]) == "Rank 1 of 2 ended the group in sum 4 after … s: it met an error of NCCL "
                    + "(unhandled cuda error).")
            #expect(ends[0] == ends[1])
        }

        @Test func `a slow rank is waited for, one that is too slow is not`() throws {
            #expect(
                try run(deadline: .seconds(20)) { nccl_stub_fail(1, Int32(NCCL_STUB_IS_SLOW), 1, 30) } == ["", ""])
            let ends = try run { nccl_stub_fail(1, Int32(NCCL_STUB_IS_SLOW), 1, 5000) }
            #expect(ends[0] == ends[1] && ends[0].hasPrefix("Rank "))
        }

        @Test(arguments: EmulatedExchange.allCases)
        func `a rank that fails while it starts ends the start of the others`(_ exchange: EmulatedExchange) throws {
            let ranks = try CUDARanks(
                RankGroup(count: 2, deadline: .milliseconds(300)), exchange: exchange.prepare())
            let ends = onRanks(2) { shard in
                guard shard.rank == 0 else { return }
                let backend = try EmulatedDevice.backend(ranks, shard)
                let x = try backend.allocate([4, 8], .f32, purpose: "a test")
                backend.collectives?.sum(x)
                try backend.synchronize()
            }
            guard case .failure(let error) = ends[0] else {
                Issue.record("rank 0 did not notice")
                return
            }
            let call = exchange == .nccl ? "the start of the group" : "sum 1"
            #expect(untimed("\(error)") == "Rank 1 of 2 ended the group in \(call) after … s: it did not come.")
        }

        @Test func `a device that fails takes the group with it`() throws {
            let ends = try run(deadline: .seconds(30)) {
                #expect(unsafe cuda_emulator_fail("stream_synchronize", 5, 719))
            }
            #expect(ends[0] == ends[1] && ends[0].contains("CUDA_ERROR_LAUNCH_FAILED"))
        }

        // MARK: The library

        /// A library that was built beside the tests.
        private func path(_ name: String) throws -> String {
            let binary = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
            return URL(fileURLWithPath: binary).deletingLastPathComponent().appendingPathComponent("lib\(name).so").path
        }

        private func refusal(_ library: String?, version: String? = nil) -> String {
            if let version { unsafe setenv("NCCL_STUB_VERSION", version, 1) }
            defer { unsafe unsetenv("NCCL_STUB_VERSION") }
            do { _ = try NCCL(library: library, rankCount: 2) } catch { return error.description }
            return ""
        }

        @Test func `without a library, or with one that cannot be used, ranks are refused in a sentence`() throws {
            let needs = "This backend cannot perform --tensor-parallel-size 2: it needs NCCL 2.14 or later "
            #expect(refusal("libnope.so").hasPrefix(needs + "(libnope.so: "))
            #expect(refusal("libc.so.6") == needs + "(libc.so.6 does not say its version).")
            let old = try path("NCCLStubOld")
            #expect(refusal(old, version: "21304") == needs + "(\(old) is NCCL 2.13.4).")
            #expect(refusal(old, version: "2708") == needs + "(\(old) is NCCL 2.7.8).")
            #expect(refusal(old) == needs + "(\(old) lacks ncclGetErrorString).")
            #expect(refusal(try path("NCCLStub")) == "")
        }

        @Test func `more ranks than there are kernels for are refused`() {
            #expect(throws: BackendError.self) {
                _ = try CUDARanks(RankGroup(count: 9, deadline: .seconds(1)), exchange: .oneDevice)
            }
        }

        @Test func `ranks on one device take no captured steps`() throws {
            let ranks = try CUDARanks(RankGroup(count: 1, deadline: .seconds(1)), exchange: .oneDevice)
            #expect(throws: BackendError.self) {
                _ = try EmulatedDevice.backend(ranks, Shard.whole, usesGraphs: true)
            }
        }
    }
}
