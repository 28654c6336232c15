// The emulator itself: what the other tests of this target rest on. Its example kernels (Tests/CUDAEmulator/examples.cpp)
// do what threads do together, rightly or with a mistake that has to show.

import CUDADriver
import CUDAEmulator
import CUDAKernels
import Testing

extension EmulatedDevice {
    @Suite struct EmulatorTests {
        static let orders: [UInt64] = [0, 1, 2, 3]

        @Test func `every kernel of the contract is compiled in`() {
            for id in 0..<Int32(CUDA_KERNEL_COUNT) {
                #expect(unsafe cuda_emulator_has_kernel(cuda_kernel_name(id)), "kernel \(id)")
            }
        }

        @Test(arguments: orders)
        func `a warp's product is each row's sum in ascending order`(order: UInt64) {
            // Small integers: exact in bf16, and so are their sums.
            let left = (0..<256).map { Float($0 * 7 % 31) - 15 }
            let right = (0..<128).map { Float($0 * 5 % 23) - 11 }
            var a: [UInt32] = []
            var b: [UInt32] = []
            for lane in 0..<32 {
                let (g, t) = (lane / 4, 2 * (lane % 4))
                for (row, column) in [(g, t), (g + 8, t), (g, t + 8), (g + 8, t + 8)] {
                    a.append(pair(left[16 * row + column], left[16 * row + column + 1]))
                }
                for row in [t, t + 8] { b.append(pair(right[8 * row + g], right[8 * (row + 1) + g])) }
            }
            // The other three warps of the block get the same operands.
            let output: [Float] = run(
                "product", Launch(threads: 128), a: a + a + a + a, b: b + b + b + b, count: 512, order: order)
            for (index, value) in output.enumerated() {
                let (lane, item) = (index / 4 % 32, index % 4)
                let (row, column) = (lane / 4 + item / 2 * 8, lane % 4 * 2 + item % 2)
                #expect(value == (0..<16).reduce(0) { $0 + left[16 * row + $1] * right[8 * $1 + column] })
            }
        }

        @Test(arguments: orders)
        func `lanes exchange what the instructions say`(order: UInt64) {
            let values = (0..<64).map { Float($0 * 37 % 64) / 7 }
            let output: [UInt32] = run("exchange", Launch(threads: 64), a: values, b: [0], count: 512, order: order)
            for thread in 0..<64 {
                let (lane, seen) = (UInt32(thread % 32), output[8 * thread..<8 * thread + 8].map { $0 })
                let (row, column) = (lane / 4, 2 * (lane % 4))
                #expect(seen[0] == 8 * column + row | (8 * (column + 1) + row) << 16)
                #expect(seen[1] == 50)
                #expect(seen[2] == lane ^ 3)
                #expect(seen[3] == 0x4924_9249)
                #expect(seen[4] == seen[5])
                #expect(seen[4] == output[8 * (thread / 32 * 32) + 4])
                #expect(Float(bitPattern: seen[6]) == values[thread / 32 * 32..<thread / 32 * 32 + 32].max())
                #expect(seen[7] == UInt32(thread))
            }
        }

        @Test func `a missing barrier shows in some order`() {
            let ones = [Float](repeating: 1, count: 256)
            let found = (0..<8 as Range<UInt64>).map { order -> Bool in
                let launch = Launch(blocks: 2, threads: 256)
                let right: [Float] = run("sum", launch, a: ones, b: [0], count: 2, order: order)
                #expect(right == [256, 256])
                let wrong: [Float] = run("sum", launch, a: ones, b: [0], variant: 1, count: 2, order: order)
                return wrong != right
            }
            #expect(found.contains(true))
        }

        @Test(arguments: [0, 1, 2, 3] as [Int32])
        func `a copy is there after the wait that covers it, and not before`(variant: Int32) {
            let source = (0..<1024).map { UInt32($0) }
            var expected = source
            expected.replaceSubrange(540..<544, with: [0, 0, 0, 0])
            let output: [UInt32] = run(
                "copy", Launch(threads: 128, sharedBytes: 4096), a: source, b: [0], variant: variant, count: 1024)
            let missing = [UInt32](repeating: .max, count: 512)
            #expect(Array(output[..<512]) == (variant == 2 ? missing : Array(expected[..<512])))
            #expect(Array(output[512...]) == (variant == 0 ? Array(expected[512...]) : missing))
        }

        @Test func `a thread that reads what others copied needs a barrier`() {
            let source = (0..<1024).map { UInt32($0) }
            let found = (0..<4 as Range<UInt64>).map { order -> Bool in
                let output: [UInt32] = run(
                    "copy", Launch(threads: 128, sharedBytes: 4096), a: source, b: [0], variant: 4, count: 1024,
                    order: order)
                return output.contains(.max)
            }
            #expect(found.contains(true))
        }

        @Test(arguments: [(0, 0), (1, 719), (2, 719), (3, 719), (4, 0)] as [(Int32, Int32)], orders)
        func `threads that wait for ever are an error`(_ expected: (variant: Int32, result: Int32), order: UInt64) {
            var arguments = cuda_example_arguments()
            arguments.variant = expected.variant
            #expect(Launch(blocks: 3, threads: 64).run("wait", arguments, order: order) == expected.result)
        }

        @Test(arguments: [(0, 0), (1, 719), (2, 719)] as [(Int32, Int32)])
        func `an address that is no multiple of what is read there is an error`(
            _ expected: (variant: Int32, result: Int32)
        ) {
            var arguments = cuda_example_arguments()
            (arguments.a, arguments.variant) = (1 << 40, expected.variant)
            #expect(Launch(threads: 32, sharedBytes: 512).run("align", arguments) == expected.result)
        }

        @Test func `shapes that a device refuses are refused`() {
            let arguments = cuda_example_arguments()
            #expect(Launch(threads: 0).run("wait", arguments) == 1)
            #expect(Launch(threads: 65).run("wait", arguments) == 1)
            #expect(Launch(blocks: 0, threads: 64).run("wait", arguments) == 1)
            #expect(Launch(threads: 64, sharedBytes: 227 * 1024 + 1).run("wait", arguments) == 1)
            #expect(Launch(threads: 64, sharedBytes: 227 * 1024).run("wait", arguments) == 0)
            #expect(Launch(threads: 64).run("nothing", arguments) == 500)
        }

        @Test func `a fused multiply-add rounds once`() {
            // Their product lies halfway between two bf16; the addend, far below what a double holds beside it, decides.
            let (x, y) = (Float(224), Float(292))
            let output: [UInt32] = run(
                "round", Launch(threads: 32), a: [UInt32](repeating: pair(x, -x), count: 32),
                b: [UInt32](repeating: pair(y, y), count: 32), count: 32)
            #expect(x * y == 65408)
            #expect(output[0] == pair(65536, -65280))
        }

        // MARK: Launching

        private func pair(_ low: Float, _ high: Float) -> UInt32 {
            low.bitPattern >> 16 | high.bitPattern & 0xFFFF_0000
        }

        private func run<Input, Other, Output: ExpressibleByIntegerLiteral>(
            _ example: String, _ launch: Launch, a: [Input], b: [Other], variant: Int32 = 0, count: Int,
            order: UInt64 = 0
        ) -> [Output] {
            var output = [Output](repeating: 0, count: count)
            let result = unsafe a.withUnsafeBytes { a in
                unsafe b.withUnsafeBytes { b in
                    unsafe output.withUnsafeMutableBytes { output in
                        let arguments = unsafe cuda_example_arguments(
                            a: address(a.baseAddress), b: address(b.baseAddress),
                            output: address(UnsafeRawPointer(output.baseAddress)), variant: variant, unused: 0)
                        return launch.run(example, arguments, order: order)
                    }
                }
            }
            #expect(result == 0)
            return output
        }

        private func address(_ pointer: UnsafeRawPointer?) -> UInt64 { UInt64(UInt(bitPattern: pointer)) }
    }

    /// A launch of one of the emulator's examples.
    struct Launch {
        var blocks: UInt32 = 1
        var threads: UInt32
        var sharedBytes: UInt32 = 0

        func run(_ example: String, _ arguments: cuda_example_arguments, order: UInt64 = 0) -> Int32 {
            var shape = cuda_launch()
            (shape.grid_x, shape.grid_y, shape.grid_z) = (blocks, 1, 1)
            (shape.threads, shape.shared_bytes) = (threads, sharedBytes)
            cuda_emulator_set_order(order)
            defer { cuda_emulator_set_order(0) }
            return unsafe withUnsafePointer(to: shape) { shape in
                unsafe withUnsafePointer(to: arguments) {
                    unsafe cuda_emulator_launch_named("apus_example_" + example, shape, $0)
                }
            }
        }
    }
}
