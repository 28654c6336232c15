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
        /// Scales of units, and what groups of them share.
        let scales: DeviceBuffer?
        let groups: DeviceBuffer?

        var byteCount: Int { [data, scales, groups].reduce(0) { $0 + ($1?.byteCount ?? 0) } }
    }

    let segments: [Segment]
    let byteCount: Int

    init(segments: [Segment], byteCount: Int) {
        self.segments = segments
        self.byteCount = byteCount
    }
}

extension CUDABackend {
    package func prepare(_ parts: [StoredTensor]) throws(BackendError) -> PreparedWeight {
        try prepare(parts, isSwizzled: true)
    }

    /// Experts are multiplied by the kernels of 8.0 everywhere.
    package func prepareExpert(_ parts: [StoredTensor]) throws(BackendError) -> PreparedWeight {
        try prepare(parts, isSwizzled: false)
    }

    /// - Parameter isSwizzled: whether those that may be become swizzled tiles, where the device has kernels for them.
    private func prepare(_ parts: [StoredTensor], isSwizzled: Bool) throws(BackendError) -> PreparedWeight {
        guard let columns = parts.first?.shape.last, parts.allSatisfy({ $0.shape.count == 2 && $0.shape[1] == columns })
        else {
            throw .unsupported(operation: "a weight", reason: "its parts must be matrices with equally many columns")
        }
        var segments: [CUDAWeight.Segment] = []
        var firstRow = 0
        var byteCount = 0
        var rest = parts[...]
        while let part = rest.first {
            let stacked = rest.prefix(isSwizzled ? stackable(rest) : 0)
            let segment =
                stacked.isEmpty
                ? try pack(part, firstRow: firstRow) : try packSwizzled(stacked, firstRow: firstRow)
            byteCount += segment.byteCount
            firstRow += Int(segment.matrix.rows)
            segments.append(segment)
            rest = rest.dropFirst(max(1, stacked.count))
        }
        let weight = CUDAWeight(segments: segments, byteCount: byteCount)
        return PreparedWeight(rowCount: firstRow, columnCount: columns, byteCount: byteCount, storage: weight)
    }

    private func pack(_ part: StoredTensor, firstRow: Int) throws(BackendError) -> CUDAWeight.Segment {
        let source = try Self.source(part)
        let (rows, columns) = (part.shape[0], part.shape[1])
        let packing = unsafe cuda_packing_of(
            source, part.bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), Int64(rows), Int64(columns))
        let tiles = (rows + Int(CUDA_TILE_ROWS) - 1) / Int(CUDA_TILE_ROWS)
        func memory(_ tileBytes: Int32) throws(BackendError) -> DeviceBuffer? {
            guard tileBytes > 0 else { return nil }
            return try device.allocate(byteCount: tiles * Int(tileBytes), purpose: part.name)
        }
        guard let data = try memory(packing.tile_bytes) else { preconditionFailure("a tile without weights") }
        let scales = try memory(packing.tile_scale_bytes)
        let groups = try memory(packing.tile_group_bytes)
        let tilesAtOnce = max(1, (16 << 20) / Int(packing.tile_bytes))
        for first in stride(from: 0, to: tiles, by: tilesAtOnce) {
            let packed = Self.pack(
                part, packing, firstTile: first, tileCount: min(tilesAtOnce, tiles - first))
            try upload(packed.data, to: data.address + UInt(first) * UInt(packing.tile_bytes))
            if let scales {
                try upload(packed.scales, to: scales.address + UInt(first) * UInt(packing.tile_scale_bytes))
            }
            if let groups {
                try upload(packed.groups, to: groups.address + UInt(first) * UInt(packing.tile_group_bytes))
            }
        }
        let matrix = cuda_matrix(
            data: cuda_address(data.address), scales: cuda_address(scales?.address ?? 0),
            groups: cuda_address(groups?.address ?? 0), format: packing.format, rows: Int32(rows),
            columns: Int32(columns), layout: Int32(CUDA_LAYOUT_FRAGMENTS), group_shift: packing.group_shift, unused: 0)
        return CUDAWeight.Segment(matrix: matrix, firstRow: firstRow, data: data, scales: scales, groups: groups)
    }

    /// Packs some tiles on all cores.
    private static func pack(
        _ part: StoredTensor, _ packing: cuda_packing, firstTile: Int, tileCount: Int
    ) -> (data: [UInt8], scales: [UInt8], groups: [UInt8]) {
        let (tile, tileScale) = (Int(packing.tile_bytes), Int(packing.tile_scale_bytes))
        let tileGroup = Int(packing.tile_group_bytes)
        var data = [UInt8](repeating: 0, count: tileCount * tile)
        var scales = [UInt8](repeating: 0, count: tileCount * tileScale)
        var groups = [UInt8](repeating: 0, count: tileCount * tileGroup)
        let shareCount = min(tileCount, 16)
        let (rows, columns) = (Int64(part.shape[0]), Int64(part.shape[1]))
        unsafe data.withUnsafeMutableBytes { data in
            unsafe scales.withUnsafeMutableBytes { scales in
                unsafe groups.withUnsafeMutableBytes { groups in
                    // Addresses cross to the threads, which write disjoint tiles and only read the source.
                    let source = unsafe UInt(bitPattern: part.bytes.baseAddress)
                    let (dataStart, scaleStart) = (
                        UInt(bitPattern: data.baseAddress), UInt(bitPattern: scales.baseAddress)
                    )
                    let groupStart = UInt(bitPattern: groups.baseAddress)
                    DispatchQueue.concurrentPerform(iterations: shareCount) { share in
                        let from = tileCount * share / shareCount
                        let to = tileCount * (share + 1) / shareCount
                        var packing = packing
                        unsafe cuda_pack(
                            &packing, UnsafePointer(bitPattern: source), rows, columns, Int64(firstTile + from),
                            Int64(to - from), UnsafeMutablePointer(bitPattern: dataStart + UInt(from * tile)),
                            UnsafeMutablePointer(bitPattern: scaleStart + UInt(from * tileScale)),
                            UnsafeMutablePointer(bitPattern: groupStart + UInt(from * tileGroup)))
                    }
                }
            }
        }
        return (data, scales, groups)
    }

    /// The kernels' number of a part's type, if its size is one they have.
    static func source(_ part: StoredTensor) throws(BackendError) -> Int32 {
        let columns = part.shape[1]
        let multiple = max(part.dtype.blockElementCount, 8)
        guard part.shape[0] > 0, columns > 0, columns % multiple == 0, part.shape[0] <= 1 << 20, columns <= 1 << 20
        else {
            throw .unsupported(
                operation: "\(part.name) of \(part.shape[0]) × \(columns)",
                reason: "\(part.dtype.rawValue) matrices need columns in multiples of \(multiple), and at most "
                    + "\(1 << 20) rows and columns")
        }
        guard let source = part.dtype.cudaSource else {
            throw .unsupported(operation: part.name, reason: "\(part.dtype.rawValue) is not a type of weights")
        }
        return Int32(source)
    }
}

extension DType {
    /// The kernels' number of this type in a checkpoint.
    fileprivate var cudaSource: Int? {
        switch self {
        case .bf16: CUDA_SOURCE_BF16
        case .f16: CUDA_SOURCE_F16
        case .f32: CUDA_SOURCE_F32
        case .q8_0: CUDA_SOURCE_Q8_0
        case .q4_0: CUDA_SOURCE_Q4_0
        case .q4_1: CUDA_SOURCE_Q4_1
        case .q5_0: CUDA_SOURCE_Q5_0
        case .q5_1: CUDA_SOURCE_Q5_1
        case .q2_k: CUDA_SOURCE_Q2_K
        case .q3_k: CUDA_SOURCE_Q3_K
        case .q4_k: CUDA_SOURCE_Q4_K
        case .q5_k: CUDA_SOURCE_Q5_K
        case .q6_k: CUDA_SOURCE_Q6_K
        case .iq4_nl: CUDA_SOURCE_IQ4_NL
        case .iq4_xs: CUDA_SOURCE_IQ4_XS
        case .mxfp4: CUDA_SOURCE_MXFP4
        case .int4: CUDA_SOURCE_INT4
        case .int8: CUDA_SOURCE_INT8
        case .e4m3: CUDA_SOURCE_E4M3
        case .i32: nil
        }
    }
}
