// A product by the kernels of linear_hopper.cu alone, by whichever of them: the tests choose what launches choose by size.

import CUDADriver
import CUDAEmulator
import CUDAKernels
import Conformance
import Testing

/// Weights [rows, columns] and inputs [tokens, columns] in bf16, and what results are added to.
struct WideProduct {
    let rows, columns, tokens: Int
    let before: [Float]
    private let packed: [UInt8]
    private let inputs: [UInt16]

    init(rows: Int, columns: Int, tokens: Int) {
        (self.rows, self.columns, self.tokens) = (rows, columns, tokens)
        var numbers = SeededNumbers(UInt64(columns))
        let weights = numbers.normals(rows * columns).flatMap { value in
            [UInt8(truncatingIfNeeded: value.bitPattern >> 16), UInt8(value.bitPattern >> 24)]
        }
        inputs = numbers.normals(tokens * columns).map { UInt16($0.bitPattern >> 16) }
        before = numbers.normals(tokens * rows)
        var packed = [UInt8](repeating: 0, count: Int(cuda_swizzled_bytes(Int64(rows), Int64(columns))))
        unsafe cuda_pack_swizzled(weights, Int64(rows), Int64(columns), 0, Int64((rows + 63) / 64), &packed)
        self.packed = packed
    }

    /// What becomes of the sums.
    enum Ending: CaseIterable {
        case stored, added, biased, gated, ranked
    }

    /// [tokens, rows] f32, or what else the ending leaves, as words; nil if the launch failed.
    func run(_ variant: Int32, _ multiprocessors: Int32, _ ending: Ending, order: UInt64) throws -> [UInt32]? {
        let memory = try EmulatedMemory(
            packed.count, 2 * inputs.count, Int(cuda_linear_hopper_partial_bytes(multiprocessors)),
            Int(cuda_linear_hopper_arrival_bytes(multiprocessors)), 4 * before.count)
        unsafe packed.withUnsafeBytes { unsafe memory.fill(0, from: $0) }
        unsafe inputs.withUnsafeBytes { unsafe memory.fill(1, from: $0) }
        unsafe before.withUnsafeBytes { unsafe memory.fill(4, from: $0) }
        var arguments = cuda_linear_hopper_arguments()
        arguments.matrix = cuda_matrix(
            data: memory.address(0), scales: 0, groups: 0, format: Int32(CUDA_WEIGHT_BF16), rows: Int32(rows),
            columns: Int32(columns), layout: Int32(CUDA_LAYOUT_SWIZZLED), group_shift: 0,
            pairs: ending == .gated ? Int32(rows / 2) : 0)
        (arguments.partial, arguments.arrivals, arguments.output) = (
            memory.address(2), memory.address(3), memory.address(4)
        )
        (arguments.token_count, arguments.output_stride) = (Int32(tokens), Int32(rows))
        (arguments.accumulate, arguments.multiprocessors) = (ending == .added ? 1 : 0, multiprocessors)
        switch ending {
        case .stored, .added: break
        // Any f32 will do.
        case .biased: arguments.ending.bias = memory.address(0)
        case .gated: arguments.ending.kind = Int32(CUDA_ENDING_GATE)
        case .ranked: arguments.ranks = memory.address(4)
        }
        let described = unsafe EmulatedDevice.calls.tensor_map_encode(
            memory.start, Int32(CUDA_TENSOR_MAP_BF16), 2, memory.place(1), [UInt64(columns), UInt64(tokens)],
            [UInt64(2 * columns)], [64, UInt32(cuda_linear_hopper_box_rows(variant))], [1, 1], 0,
            Int32(CUDA_TENSOR_MAP_SWIZZLE_128), 0, 0)
        try #require(described == 0)
        arguments.activations = unsafe memory.start.load(as: cuda_tensor_map.self)
        var shape = unsafe cuda_linear_hopper_launch_of(&arguments, variant)
        cuda_emulator_set_order(order)
        defer { cuda_emulator_set_order(0) }
        guard unsafe cuda_emulator_launch(&shape, &arguments) == 0 else { return nil }
        return unsafe Array(
            UnsafeBufferPointer(start: memory.place(4).assumingMemoryBound(to: UInt32.self), count: before.count))
    }
}

/// Runs of bytes of the host that the emulated device may touch, zeros at first, after 128 bytes for a map.
@safe
private final class EmulatedMemory {
    let start: UnsafeMutableRawPointer
    private let offsets: [Int]

    init(_ byteCounts: Int...) throws {
        var offsets = [128]
        for count in byteCounts { offsets.append((offsets[offsets.count - 1] + count + 255) / 256 * 256) }
        self.offsets = offsets
        let total = offsets[offsets.count - 1]
        unsafe start = UnsafeMutableRawPointer.allocate(byteCount: total, alignment: 128)
        unsafe start.initializeMemory(as: UInt8.self, repeating: 0, count: total)
    }

    deinit { unsafe start.deallocate() }

    func place(_ index: Int) -> UnsafeMutableRawPointer { unsafe start + offsets[index] }
    func address(_ index: Int) -> UInt64 { unsafe UInt64(UInt(bitPattern: place(index))) }

    func fill(_ index: Int, from bytes: UnsafeRawBufferPointer) {
        unsafe UnsafeMutableRawBufferPointer(start: place(index), count: bytes.count).copyMemory(from: bytes)
    }
}
