// A matrix as the CUDA kernels read it: runs of rows in one storage format each, packed in fragment order.

import CUDADriver
import CUDAKernels
import Dispatch
import Tensors

/// The device's form of a `PreparedWeight`.
final class CUDAWeight {
    /// Rows that share a format, packed, and where their results go.
    struct Segment {
        let matrix: cuda_matrix
        let firstRow: Int
        /// Keeps the matrix's memory.
        let data: DeviceBuffer
        let scales: DeviceBuffer?
    }

    /// Changed once at most, when a weight turns out to be an expert's.
    fileprivate(set) var segments: [Segment]
    let byteCount: Int

    init(segments: [Segment], byteCount: Int) {
        self.segments = segments
        self.byteCount = byteCount
    }
}

extension CUDABackend {
    package func prepare(_ parts: [StoredTensor]) throws(BackendError) -> PreparedWeight {
        guard let columns = parts.first?.shape.last, parts.allSatisfy({ $0.shape.count == 2 && $0.shape[1] == columns })
        else {
            throw .unsupported(operation: "a weight", reason: "its parts must be matrices with equally many columns")
        }
        var segments: [CUDAWeight.Segment] = []
        var firstRow = 0
        var byteCount = 0
        var rest = parts[...]
        while let part = rest.first {
            let stacked = rest.prefix(stackable(rest))
            let segment =
                stacked.isEmpty
                ? try pack(part, firstRow: firstRow) : try packSwizzled(stacked, firstRow: firstRow)
            byteCount += segment.data.byteCount + (segment.scales?.byteCount ?? 0)
            firstRow += Int(segment.matrix.rows)
            segments.append(segment)
            rest = rest.dropFirst(max(1, stacked.count))
        }
        let weight = CUDAWeight(segments: segments, byteCount: byteCount)
        return PreparedWeight(rowCount: firstRow, columnCount: columns, byteCount: byteCount, storage: weight)
    }

    /// Packs swizzled tiles anew, as the fragments that the experts' kernels read. A prepared weight does not say what
    /// it is for; the first step of a mixture of bf16 experts on Hopper pays for that.
    func packAsFragments(_ weight: CUDAWeight) throws(BackendError) {
        for index in weight.segments.indices
        where weight.segments[index].matrix.layout == Int32(CUDA_LAYOUT_SWIZZLED) {
            let segment = weight.segments[index]
            let (rows, columns) = (Int64(segment.matrix.rows), Int64(segment.matrix.columns))
            let tiles = read(segment.data.address, count: segment.data.byteCount, as: UInt8.self, zero: 0)
            if let failure { throw failure }
            var plain = [UInt8](repeating: 0, count: 2 * Int(rows * columns))
            unsafe cuda_unpack_swizzled(tiles, rows, columns, &plain)
            let byteCount = Int(cuda_packed_bytes(segment.matrix.format, rows, columns))
            var packed = [UInt8](repeating: 0, count: byteCount)
            let tileCount = (rows + Int64(CUDA_TILE_ROWS) - 1) / Int64(CUDA_TILE_ROWS)
            unsafe cuda_pack(segment.matrix.format, plain, rows, columns, 0, tileCount, &packed, nil)
            let data = try device.allocate(byteCount: byteCount, purpose: "an expert")
            try upload(packed, to: data.address)
            var matrix = segment.matrix
            matrix.data = cuda_address(data.address)
            matrix.layout = Int32(CUDA_LAYOUT_FRAGMENTS)
            weight.segments[index] = CUDAWeight.Segment(
                matrix: matrix, firstRow: segment.firstRow, data: data, scales: nil)
        }
    }

    private func pack(_ part: StoredTensor, firstRow: Int) throws(BackendError) -> CUDAWeight.Segment {
        let format = try Self.format(part)
        let rows = part.shape[0]
        let columns = part.shape[1]
        let data = try device.allocate(
            byteCount: Int(cuda_packed_bytes(format, Int64(rows), Int64(columns))), purpose: part.name)
        let scaleBytes = Int(cuda_packed_scale_bytes(format, Int64(rows), Int64(columns)))
        let scales = scaleBytes > 0 ? try device.allocate(byteCount: scaleBytes, purpose: part.name) : nil
        let tiles = (rows + Int(CUDA_TILE_ROWS) - 1) / Int(CUDA_TILE_ROWS)
        let tileBytes = Int(cuda_packed_bytes(format, Int64(CUDA_TILE_ROWS), Int64(columns)))
        let tileScaleBytes = Int(cuda_packed_scale_bytes(format, Int64(CUDA_TILE_ROWS), Int64(columns)))
        let tilesAtOnce = max(1, (16 << 20) / max(1, tileBytes))
        var first = 0
        while first < tiles {
            let count = min(tilesAtOnce, tiles - first)
            let packed = Self.pack(
                part, format: format, firstTile: first, tileCount: count, tileBytes: tileBytes,
                tileScaleBytes: tileScaleBytes)
            try upload(packed.data, to: data.address + UInt(first * tileBytes))
            if let scales { try upload(packed.scales, to: scales.address + UInt(first * tileScaleBytes)) }
            first += count
        }
        let matrix = cuda_matrix(
            data: cuda_address(data.address), scales: cuda_address(scales?.address ?? 0), format: format,
            rows: Int32(rows), columns: Int32(columns), layout: Int32(CUDA_LAYOUT_FRAGMENTS))
        return CUDAWeight.Segment(matrix: matrix, firstRow: firstRow, data: data, scales: scales)
    }

    /// Packs some tiles on all cores.
    private static func pack(
        _ part: StoredTensor, format: Int32, firstTile: Int, tileCount: Int, tileBytes: Int, tileScaleBytes: Int
    ) -> (data: [UInt8], scales: [UInt8]) {
        var data = [UInt8](repeating: 0, count: tileCount * tileBytes)
        var scales = [UInt8](repeating: 0, count: tileCount * tileScaleBytes)
        let shareCount = min(tileCount, 16)
        let (rows, columns) = (Int64(part.shape[0]), Int64(part.shape[1]))
        unsafe data.withUnsafeMutableBytes { data in
            unsafe scales.withUnsafeMutableBytes { scales in
                // Addresses cross to the threads, which write disjoint tiles and only read the source.
                let source = unsafe UInt(bitPattern: part.bytes.baseAddress)
                let dataStart = UInt(bitPattern: data.baseAddress)
                let scaleStart = UInt(bitPattern: scales.baseAddress)
                DispatchQueue.concurrentPerform(iterations: shareCount) { share in
                    let from = tileCount * share / shareCount
                    let to = tileCount * (share + 1) / shareCount
                    unsafe cuda_pack(
                        format, UnsafePointer(bitPattern: source), rows, columns, Int64(firstTile + from),
                        Int64(to - from), UnsafeMutablePointer(bitPattern: dataStart + UInt(from * tileBytes)),
                        UnsafeMutablePointer(bitPattern: scaleStart + UInt(from * tileScaleBytes)))
                }
            }
        }
        return (data, scales)
    }

    static func format(_ part: StoredTensor) throws(BackendError) -> Int32 {
        let columns = part.shape[1]
        let multiple = part.dtype.isQuantized ? 32 : 8
        guard part.shape[0] > 0, columns > 0, columns % multiple == 0, part.shape[0] <= 1 << 20, columns <= 1 << 20
        else {
            throw .unsupported(
                operation: "\(part.name) of \(part.shape[0]) × \(columns)",
                reason: "\(part.dtype.rawValue) matrices need columns in multiples of \(multiple), and at most "
                    + "\(1 << 20) rows and columns")
        }
        switch part.dtype {
        case .bf16: return Int32(CUDA_WEIGHT_BF16)
        case .f16: return Int32(CUDA_WEIGHT_F16)
        case .f32: return Int32(CUDA_WEIGHT_F32)
        case .q8_0: return Int32(CUDA_WEIGHT_Q8_0)
        case .q4_0: return Int32(CUDA_WEIGHT_Q4_0)
        case .q4_1: return Int32(CUDA_WEIGHT_Q4_1)
        case .i32:
            throw .unsupported(operation: part.name, reason: "i32 is not a type of weights")
        default:
            throw .unsupported(
                operation: "the weight \(part.name)",
                reason: "the CUDA kernels have no \(part.dtype.rawValue); they have bf16, f16, f32, q8_0, q4_0 and q4_1"
            )
        }
    }
}
