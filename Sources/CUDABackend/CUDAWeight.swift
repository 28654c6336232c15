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
        try prepare(parts, isExpert: false, pairs: .none)
    }

    package func prepare(_ parts: [StoredTensor], pairs: RowPairs) throws(BackendError) -> PreparedWeight {
        try prepare(parts, isExpert: false, pairs: pairs)
    }

    /// Experts are multiplied by the kernels of 8.0 everywhere.
    package func prepareExpert(_ parts: [StoredTensor]) throws(BackendError) -> PreparedWeight {
        try prepare(parts, isExpert: true, pairs: .none)
    }

    /// - Parameter isExpert: whether parts stay apart, in the fragments of 8.0.
    private func prepare(
        _ parts: [StoredTensor], isExpert: Bool, pairs: RowPairs
    ) throws(BackendError) -> PreparedWeight {
        guard let columns = parts.first?.shape.last, parts.allSatisfy({ $0.shape.count == 2 && $0.shape[1] == columns })
        else {
            throw .unsupported(operation: "a weight", reason: "its parts must be matrices with equally many columns")
        }
        for part in parts { _ = try Self.source(part) }
        var segments: [CUDAWeight.Segment] = []
        var firstRow = 0
        var byteCount = 0
        var rest = parts[...]
        while !rest.isEmpty {
            let swizzled = isExpert ? 0 : stackable(rest)
            let segment: CUDAWeight.Segment
            if swizzled > 0 {
                segment = try packSwizzled(rest.prefix(swizzled), firstRow: firstRow, pairs: pairs)
                rest = rest.dropFirst(swizzled)
            } else {
                let (stack, packing) = try Self.stackOfFragments(isExpert ? rest.prefix(1) : rest)
                segment = try packFragments(stack, packing, firstRow: firstRow, pairs: pairs)
                rest = rest.dropFirst(stack.count)
            }
            byteCount += segment.byteCount
            firstRow += Int(segment.matrix.rows)
            segments.append(segment)
        }
        let weight = CUDAWeight(segments: segments, byteCount: byteCount)
        return PreparedWeight(rowCount: firstRow, columnCount: columns, byteCount: byteCount, storage: weight)
    }

    /// How a part is packed by itself.
    private static func packing(_ part: StoredTensor) throws(BackendError) -> cuda_packing {
        let source = try Self.source(part)
        let bytes = unsafe part.bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
        return unsafe cuda_packing_of(source, bytes, Int64(part.shape[0]), Int64(part.shape[1]))
    }

    /// Those of `parts`, from the first on, that become one matrix: of one format.
    private static func stackOfFragments(
        _ parts: ArraySlice<StoredTensor>
    ) throws(BackendError) -> (parts: ArraySlice<StoredTensor>, packing: cuda_packing) {
        guard let first = parts.first else { preconditionFailure("a weight without parts") }
        var (packing, rows, count) = (try packing(first), first.shape[0], 1)
        for part in parts.dropFirst() {
            guard part.dtype == first.dtype, rows + part.shape[0] <= 1 << 20 else { break }
            // Of some types scales decide the format, and how many columns share them.
            let other = try Self.packing(part)
            guard other.format == packing.format else { break }
            if other.group_shift < packing.group_shift { packing = other }
            (rows, count) = (rows + part.shape[0], count + 1)
        }
        return (parts.prefix(count), packing)
    }

    /// Packs matrices of one format, one below the other, into the fragments of one.
    private func packFragments(
        _ stacked: ArraySlice<StoredTensor>, _ packing: cuda_packing, firstRow: Int, pairs: RowPairs
    ) throws(BackendError) -> CUDAWeight.Segment {
        guard let first = stacked.first else { preconditionFailure("a weight without parts") }
        let (rows, columns) = (stacked.reduce(0) { $0 + $1.shape[0] }, first.shape[1])
        let tileRows = Int(CUDA_TILE_ROWS)
        let tiles = (rows + tileRows - 1) / tileRows
        func memory(_ tileBytes: Int32) throws(BackendError) -> DeviceBuffer? {
            guard tileBytes > 0 else { return nil }
            return try device.allocate(byteCount: tiles * Int(tileBytes), purpose: first.name)
        }
        guard let data = try memory(packing.tile_bytes) else { preconditionFailure("a tile without weights") }
        let scales = try memory(packing.tile_scale_bytes)
        let groups = try memory(packing.tile_group_bytes)
        let apart = pairs.apart(rows: rows, firstRow: firstRow)
        let stack = RowStack(
            stacked, rowBytes: first.dtype.rowByteCount(elementCount: columns) ?? 0, pairs: apart)
        let tilesAtOnce = max(1, (16 << 20) / Int(packing.tile_bytes))
        for first in stride(from: 0, to: tiles, by: tilesAtOnce) {
            let count = min(tilesAtOnce, tiles - first)
            let range = first * tileRows..<min(rows, (first + count) * tileRows)
            let packed = Self.pack(
                stack.rows(range), rows: range.count, columns: columns, packing, tileCount: count)
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
            columns: Int32(columns), layout: Int32(CUDA_LAYOUT_FRAGMENTS), group_shift: packing.group_shift,
            pairs: apart)
        return CUDAWeight.Segment(matrix: matrix, firstRow: firstRow, data: data, scales: scales, groups: groups)
    }

    /// Packs some tiles' rows on all cores.
    private static func pack(
        _ source: [UInt8], rows: Int, columns: Int, _ packing: cuda_packing, tileCount: Int
    ) -> (data: [UInt8], scales: [UInt8], groups: [UInt8]) {
        let (tile, tileScale) = (Int(packing.tile_bytes), Int(packing.tile_scale_bytes))
        let tileGroup = Int(packing.tile_group_bytes)
        var data = [UInt8](repeating: 0, count: tileCount * tile)
        var scales = [UInt8](repeating: 0, count: tileCount * tileScale)
        var groups = [UInt8](repeating: 0, count: tileCount * tileGroup)
        let shareCount = min(tileCount, 16)
        unsafe data.withUnsafeMutableBytes { data in
            unsafe scales.withUnsafeMutableBytes { scales in
                unsafe groups.withUnsafeMutableBytes { groups in
                    unsafe source.withUnsafeBytes { source in
                        // Addresses cross to the threads, which write disjoint tiles and only read the source.
                        let sourceStart = UInt(bitPattern: source.baseAddress)
                        let (dataStart, scaleStart) = (
                            UInt(bitPattern: data.baseAddress), UInt(bitPattern: scales.baseAddress)
                        )
                        let groupStart = UInt(bitPattern: groups.baseAddress)
                        DispatchQueue.concurrentPerform(iterations: shareCount) { share in
                            let from = tileCount * share / shareCount
                            let to = tileCount * (share + 1) / shareCount
                            var packing = packing
                            unsafe cuda_pack(
                                &packing, UnsafePointer(bitPattern: sourceStart), Int64(rows), Int64(columns),
                                Int64(from), Int64(to - from),
                                UnsafeMutablePointer(bitPattern: dataStart + UInt(from * tile)),
                                UnsafeMutablePointer(bitPattern: scaleStart + UInt(from * tileScale)),
                                UnsafeMutablePointer(bitPattern: groupStart + UInt(from * tileGroup)))
                        }
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
