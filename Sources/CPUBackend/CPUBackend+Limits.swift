// What this machine can do at most with this backend's instruction set and threads: bytes read a second, and sums of
// products. A kernel's time means something beside these.

import CPUKernels
import Tensors

extension CPUBackend {
    /// Kinds of products; the raw value is its spelling in reports.
    package enum Product: String, CaseIterable, Sendable {
        case int8, bf16, f32

        fileprivate var identifier: Int {
            switch self {
            case .int8: CPU_PRODUCT_INT8
            case .bf16: CPU_PRODUCT_BF16
            case .f32: CPU_PRODUCT_F32
            }
        }
    }

    /// The most bytes a second that all threads read together, of memory of `byteCount` bytes that is read over and
    /// over: the fastest of the passes that fit into `duration`.
    package func readBandwidth(byteCount: Int, duration: Duration) throws(BackendError) -> Double {
        let byteCount = max(1 << 16, byteCount)
        guard let memory = unsafe cpu_map(UInt64(byteCount), true) else {
            throw .outOfMemory(byteCount: byteCount, purpose: "memory to read")
        }
        defer { unsafe cpu_unmap(memory, UInt64(byteCount)) }
        // Untouched pages are all the same page of zeros.
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 1, count: byteCount)
        // Small memory is passed over several times, so that starting the threads is not in the time.
        let passes = max(1, (32 << 20) / byteCount)
        return Self.fastest(duration) {
            unsafe cpu_read_memory(context, memory, UInt64(byteCount), Int64(passes))
            return byteCount * passes
        }
    }

    /// The most operations a second (two for a product and its sum) of all threads together; nil where the instruction
    /// set has no such product.
    package func productRate(_ product: Product, duration: Duration) -> Double? {
        let rate = Self.fastest(duration) {
            Int(unsafe cpu_multiply(context, Int32(product.identifier), 200_000))
        }
        return rate > 0 ? rate : nil
    }

    /// The largest amount a second of the calls that fit into `duration`, at least three.
    private static func fastest(_ duration: Duration, _ work: () -> Int) -> Double {
        let begin = ContinuousClock.now
        var best = 0.0
        var calls = 0
        while calls < 3 || begin.duration(to: .now) < duration {
            let start = ContinuousClock.now
            let amount = work()
            let (seconds, attoseconds) = start.duration(to: .now).components
            best = max(best, Double(amount) / (Double(seconds) + Double(attoseconds) * 1e-18))
            calls += 1
        }
        return best
    }
}
