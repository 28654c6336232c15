// Products on compute capability 9.0: bf16 weights in swizzled tiles, multiplied by linear_hopper.cu for any number
// of tokens, so that a row's bits do not depend on it. Other formats keep the kernels of 8.0, for any number too.

import CUDADriver
import CUDAKernels
import Dispatch
import Tensors

/// Memory of the kernels for compute capability 9.0. Nothing else is sized by a step.
@safe
final class HopperScratch {
    /// Sums of slices of tiles that several blocks share, and how many of a tile's are there; the latter are zero
    /// between launches.
    let partial: DeviceBuffer
    let arrivals: DeviceBuffer
    /// A word that a kernel leaves a reason in before it ends itself.
    let stuck: PinnedMemory.Owner
    /// 128 bytes that a map is made in: the driver asks for their alignment.
    let map: UnsafeMutableRawPointer

    /// Whether a device runs these kernels: they are of one compute capability, and take nearly all shared memory.
    static func fits(_ properties: DeviceProperties) -> Bool {
        properties.computeCapability == 90
            && properties.maxSharedBytesPerBlock > Int(cuda_linear_hopper_shared_bytes()) + 1024
    }

    init(device: Device, stream: borrowing Stream) throws(BackendError) {
        let multiprocessors = Int32(device.properties.multiprocessorCount)
        partial = try device.allocate(
            byteCount: Int(cuda_linear_hopper_partial_bytes(multiprocessors)), purpose: "sums of slices")
        let arrivals = try device.allocate(
            byteCount: Int(cuda_linear_hopper_arrival_bytes(multiprocessors)), purpose: "arrivals of slices")
        let cleared = unsafe device.driver.calls.fill(
            cuda_pointer(arrivals.address), 0, arrivals.byteCount, stream.handle)
        try device.driver.check(cleared, "clearing arrivals of slices")
        self.arrivals = arrivals
        stuck = PinnedMemory.Owner(try PinnedMemory(byteCount: 64, device: device))
        unsafe map = UnsafeMutableRawPointer.allocate(
            byteCount: MemoryLayout<cuda_tensor_map>.size, alignment: 64)
    }

    deinit { unsafe map.deallocate() }

    /// What a kernel waited for that ended itself, if one did.
    var stuckPlace: String? {
        switch unsafe stuck.memory.bytes.load(as: UInt32.self) {
        case UInt32(CUDA_STUCK_OPERANDS): "a multiplying warp waited seconds for its operands"
        case UInt32(CUDA_STUCK_ROOM): "the copying warp waited seconds for room in its ring"
        default: nil
        }
    }
}

extension CUDABackend {
    /// output (+)= matrix · x, for a matrix in swizzled tiles.
    func multiply(_ x: Tensor, _ matrix: cuda_matrix, into output: cuda_address, stride: Int, mode: LinearMode) {
        guard let hopper else { preconditionFailure("swizzled tiles on a device that has no kernels for them") }
        var arguments = cuda_linear_hopper_arguments()
        arguments.matrix = matrix
        arguments.output = output
        arguments.partial = cuda_address(hopper.partial.address)
        arguments.arrivals = cuda_address(hopper.arrivals.address)
        arguments.stuck = unsafe cuda_address(UInt(bitPattern: hopper.stuck.memory.bytes.baseAddress))
        arguments.token_count = Int32(x.rowCount)
        arguments.output_stride = Int32(stride)
        arguments.accumulate = mode == .accumulate ? 1 : 0
        arguments.multiprocessors = Int32(device.properties.multiprocessorCount)
        let tokens = unsafe cuda_linear_hopper_tokens(&arguments)
        attempt { () throws(BackendError) in
            arguments.activations = try describe(x, rows: UInt32(tokens), in: hopper)
            unsafe launch(cuda_linear_hopper_launch, arguments, "linear")
        }
    }

    /// How the copy engine finds boxes of 64 columns by `rows` of x.
    private func describe(_ x: Tensor, rows: UInt32, in hopper: HopperScratch) throws(BackendError) -> cuda_tensor_map {
        let size = [UInt64(x.rowElementCount), UInt64(x.rowCount)]
        let strides = [UInt64(2 * x.rowElementCount)]
        let box = [UInt32(CUDA_UNIT_COLUMNS), rows]
        let result = unsafe device.driver.calls.tensor_map_encode(
            hopper.map, Int32(CUDA_TENSOR_MAP_BF16), 2, UnsafeMutableRawPointer(bitPattern: UInt(halves(x))), size,
            strides, box, [1, 1], 0, Int32(CUDA_TENSOR_MAP_SWIZZLE_128), Int32(CUDA_TENSOR_MAP_PROMOTION_256), 0)
        try device.driver.check(result, "describing activations")
        return unsafe hopper.map.load(as: cuda_tensor_map.self)
    }

    /// How many of `parts`, from the first on, become one matrix: bf16, and each but the last whole tiles of rows. So
    /// queries, keys and values are one product, and so are gates and ups.
    func stackable(_ parts: ArraySlice<StoredTensor>) -> Int {
        guard hopper != nil else { return 0 }
        var count = 0
        for part in parts {
            guard part.dtype == .bf16 else { break }
            count += 1
            guard part.shape[0] % Int(CUDA_SWIZZLED_ROW_COUNT) == 0 else { break }
        }
        return count
    }

    /// Packs bf16 matrices, one below the other, into the swizzled tiles of one.
    func packSwizzled(_ parts: ArraySlice<StoredTensor>, firstRow: Int) throws(BackendError) -> CUDAWeight.Segment {
        for part in parts { _ = try Self.source(part) }
        let rows = parts.reduce(0) { $0 + $1.shape[0] }
        guard let first = parts.first, rows <= 1 << 20 else {
            throw .unsupported(operation: "a weight of \(rows) rows", reason: "there may be \(1 << 20) at most")
        }
        let columns = first.shape[1]
        let byteCount = Int(cuda_swizzled_bytes(Int64(rows), Int64(columns)))
        let data = try device.allocate(byteCount: byteCount, purpose: first.name)
        let tileBytes = Int(cuda_swizzled_bytes(1, Int64(columns)))
        let tilesAtOnce = max(1, (16 << 20) / tileBytes)
        var address = data.address
        for part in parts {
            let tiles = Int(cuda_swizzled_bytes(Int64(part.shape[0]), Int64(columns))) / tileBytes
            for first in stride(from: 0, to: tiles, by: tilesAtOnce) {
                let count = min(tilesAtOnce, tiles - first)
                try upload(
                    Self.packSwizzled(part, firstTile: first, tileCount: count, tileBytes: tileBytes), to: address)
                address += UInt(count * tileBytes)
            }
        }
        let matrix = cuda_matrix(
            data: cuda_address(data.address), scales: 0, groups: 0, format: Int32(CUDA_WEIGHT_BF16), rows: Int32(rows),
            columns: Int32(columns), layout: Int32(CUDA_LAYOUT_SWIZZLED), group_shift: 0, unused: 0)
        return CUDAWeight.Segment(matrix: matrix, firstRow: firstRow, data: data, scales: nil, groups: nil)
    }

    /// Packs some tiles on all cores.
    private static func packSwizzled(
        _ part: StoredTensor, firstTile: Int, tileCount: Int, tileBytes: Int
    ) -> [UInt8] {
        var data = [UInt8](repeating: 0, count: tileCount * tileBytes)
        let shareCount = min(tileCount, 16)
        let (rows, columns) = (Int64(part.shape[0]), Int64(part.shape[1]))
        unsafe data.withUnsafeMutableBytes { data in
            // Addresses cross to the threads, which write disjoint tiles and only read the source.
            let source = unsafe UInt(bitPattern: part.bytes.baseAddress)
            let start = UInt(bitPattern: data.baseAddress)
            DispatchQueue.concurrentPerform(iterations: shareCount) { share in
                let from = tileCount * share / shareCount
                let to = tileCount * (share + 1) / shareCount
                unsafe cuda_pack_swizzled(
                    UnsafePointer(bitPattern: source), rows, columns, Int64(firstTile + from), Int64(to - from),
                    UnsafeMutablePointer(bitPattern: start + UInt(from * tileBytes)))
            }
        }
        return data
    }
}
