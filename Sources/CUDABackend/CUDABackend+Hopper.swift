// Products on compute capability 9.0: bf16 weights in swizzled tiles, multiplied by linear_hopper.cu for any number
// of tokens, so that a row's bits do not depend on it; likewise 8-bit floats whose makers had inputs quantized too.
// Other formats keep the kernels of 8.0, for any number too.

import CUDADriver
import CUDAKernels
import Tensors

/// Memory of the kernels for compute capability 9.0. Nothing else is sized by a step.
@safe
final class HopperScratch {
    /// Sums of slices of tiles that several blocks share, and how many of a tile's are there; the latter are zero
    /// between launches.
    let partial: DeviceBuffer
    let arrivals: DeviceBuffer
    /// Whether some weights are multiplied with inputs of 8-bit floats.
    var quantizesInputs = false
    /// Rows as 8-bit floats and their scales, as large as the largest product's so far: of whatever is multiplied next,
    /// and of the latest norm.
    var codes: DeviceBuffer?
    var normCodes: DeviceBuffer?
    /// What the latter are of.
    var normed: Tensor?
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
    /// output (+)= matrix · x, for a matrix in swizzled tiles; or what its ending says, or its ranks.
    func multiplySwizzled(
        _ x: Tensor, _ matrix: cuda_matrix, into output: cuda_address, stride: Int, mode: LinearMode,
        ending: cuda_ending, ranks: cuda_address
    ) {
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
        arguments.ranks = ranks
        arguments.multiprocessors = Int32(device.properties.multiprocessorCount)
        arguments.ending = ending
        let boxRows = unsafe cuda_linear_hopper_box_rows(cuda_linear_hopper_variant(&arguments))
        attempt { () throws(BackendError) in
            var (address, words) = (halves(x), x.rowElementCount)
            if matrix.format == Int32(CUDA_WEIGHT_E4M3) {
                let codes = try quantize(x, in: hopper)
                (address, words) = (codes.address, words / 2)
                arguments.input_scales = codes.scales
            }
            arguments.activations = try describe(
                address, words: words, rows: x.rowCount, box: UInt32(boxRows), in: hopper)
            unsafe launch(cuda_linear_hopper_launch, arguments, "linear")
        }
    }

    /// Memory for rows as 8-bit floats, and where their scales are in it.
    private func codes(
        of x: Tensor, in memory: inout DeviceBuffer?
    ) throws(BackendError) -> (address: cuda_address, scales: cuda_address) {
        let codeBytes = (x.rowCount * x.rowElementCount + 255) / 256 * 256
        let byteCount = codeBytes + 4 * x.rowCount
        if memory.map({ $0.byteCount < byteCount }) ?? true {
            memory = try device.allocate(byteCount: byteCount, purpose: "activations as 8-bit floats")
            dropGraphs()
        }
        let address = cuda_address(memory?.address ?? 0)
        return (address, address + cuda_address(codeBytes))
    }

    /// The rows of x as 8-bit floats, until the next are made.
    private func quantize(
        _ x: Tensor, in hopper: HopperScratch
    ) throws(BackendError) -> (address: cuda_address, scales: cuda_address) {
        if let normed = hopper.normed, normed.address == x.address, normed.shape == x.shape {
            return try codes(of: x, in: &hopper.normCodes)
        }
        let codes = try self.codes(of: x, in: &hopper.codes)
        let arguments = cuda_quantize_rows_arguments(
            x: halves(x), codes: codes.address, scales: codes.scales, row_count: Int32(x.rowCount),
            columns: Int32(x.rowElementCount))
        unsafe launch(cuda_quantize_rows_launch, arguments, "quantizing activations")
        return codes
    }

    /// Where a norm within a step leaves its rows as 8-bit floats too; zeros where nobody wants them.
    func codes(ofNorm output: Tensor) -> (address: cuda_address, scales: cuda_address) {
        guard let hopper, isInStep, hopper.quantizesInputs, output.rowElementCount % 32 == 0 else { return (0, 0) }
        var codes: (address: cuda_address, scales: cuda_address) = (0, 0)
        attempt { () throws(BackendError) in
            codes = try self.codes(of: output, in: &hopper.normCodes)
            hopper.normed = output
        }
        return codes
    }

    /// Says that `output` is written by something else.
    func forgetCodes(of output: Tensor) {
        if hopper?.normed?.address == output.address { hopper?.normed = nil }
    }

    /// How the copy engine finds boxes of 64 columns by `box` rows of a matrix of 16-bit words.
    private func describe(
        _ address: cuda_address, words: Int, rows: Int, box: UInt32, in hopper: HopperScratch
    ) throws(BackendError) -> cuda_tensor_map {
        let size = [UInt64(words), UInt64(rows)]
        let strides = [UInt64(2 * words)]
        let result = unsafe device.driver.calls.tensor_map_encode(
            hopper.map, Int32(CUDA_TENSOR_MAP_BF16), 2, UnsafeMutableRawPointer(bitPattern: UInt(address)), size,
            strides, [UInt32(CUDA_UNIT_COLUMNS), box], [1, 1], 0, Int32(CUDA_TENSOR_MAP_SWIZZLE_128),
            Int32(CUDA_TENSOR_MAP_PROMOTION_256), 0)
        try device.driver.check(result, "describing activations")
        return unsafe hopper.map.load(as: cuda_tensor_map.self)
    }

    /// How many of `parts`, from the first on, become one matrix: those of a type that there are kernels for. So
    /// queries, keys and values are one product, and so are gates and ups.
    func stackable(_ parts: ArraySlice<StoredTensor>) -> Int {
        guard hopper != nil, let first = parts.first else { return 0 }
        let fitting = parts.prefix { part in
            let isFloat8 = part.dtype == .e4m3 && part.quantizesInput && Self.sharedScales(part) != nil
            return part.dtype == first.dtype && (isFloat8 || part.dtype == .bf16)
        }
        return fitting.count
    }

    /// How many times two runs of 128 columns have the same scale in every row; nil where not even one has.
    private static func sharedScales(_ part: StoredTensor) -> Int32? {
        guard part.dtype == .e4m3, part.shape[0] > 0, part.shape[1] > 0, part.shape[1] % 32 == 0 else { return nil }
        let bytes = unsafe part.bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
        let shift = unsafe cuda_swizzled_e4m3_shift(bytes, Int64(part.shape[0]), Int64(part.shape[1]))
        return shift < 0 ? nil : shift
    }

    /// Packs matrices of one type, one below the other, into the swizzled tiles of one.
    func packSwizzled(
        _ parts: ArraySlice<StoredTensor>, firstRow: Int, pairs: RowPairs
    ) throws(BackendError) -> CUDAWeight.Segment {
        for part in parts { _ = try Self.source(part) }
        let rows = parts.reduce(0) { $0 + $1.shape[0] }
        guard let first = parts.first, rows <= 1 << 20 else {
            throw .unsupported(operation: "a weight of \(rows) rows", reason: "there may be \(1 << 20) at most")
        }
        let isFloat8 = first.dtype == .e4m3
        if isFloat8 { hopper?.quantizesInputs = true }
        let shift = isFloat8 ? parts.compactMap { Self.sharedScales($0) }.min() ?? 0 : 0
        let layout = SwizzledLayout(rows: rows, columns: first.shape[1], shift: isFloat8 ? shift : nil)
        let data = try device.allocate(byteCount: layout.tiles * layout.tileBytes, purpose: first.name)
        let scales =
            isFloat8
            ? try device.allocate(byteCount: layout.tiles * layout.tileScaleBytes, purpose: first.name) : nil
        let apart = pairs.apart(rows: rows, firstRow: firstRow)
        let stack = RowStack(parts, rowBytes: layout.rowBytes, pairs: apart)
        for first in stride(from: 0, to: layout.tiles, by: layout.tilesAtOnce) {
            let range = first..<min(layout.tiles, first + layout.tilesAtOnce)
            let packed = layout.pack(stack.rows(layout.rows(of: range)), tileCount: range.count)
            try upload(packed.data, to: data.address + UInt(range.lowerBound * layout.tileBytes))
            if let scales {
                try upload(packed.scales, to: scales.address + UInt(range.lowerBound * layout.tileScaleBytes))
            }
        }
        let matrix = cuda_matrix(
            data: cuda_address(data.address), scales: cuda_address(scales?.address ?? 0), groups: 0,
            format: Int32(isFloat8 ? CUDA_WEIGHT_E4M3 : CUDA_WEIGHT_BF16), rows: Int32(rows),
            columns: Int32(layout.columns), layout: Int32(CUDA_LAYOUT_SWIZZLED), group_shift: shift, pairs: apart)
        return CUDAWeight.Segment(matrix: matrix, firstRow: firstRow, data: data, scales: scales, groups: nil)
    }
}
