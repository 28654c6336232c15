// Sizes of a matrix in swizzled tiles, and packing them on all cores.

import CUDAKernels
import Dispatch

/// A matrix of bf16, or of 8-bit floats and their scales.
struct SwizzledLayout {
    let rows: Int
    let columns: Int
    /// Of 8-bit floats: as `group_shift` of `cuda_matrix`; nil for bf16.
    let shift: Int32?
    let tiles: Int
    let tileBytes: Int
    let tileScaleBytes: Int
    /// Of a stored row.
    let rowBytes: Int

    init(rows: Int, columns: Int, shift: Int32?) {
        (self.rows, self.columns, self.shift) = (rows, columns, shift)
        tiles = (rows + Int(CUDA_SWIZZLED_ROW_COUNT) - 1) / Int(CUDA_SWIZZLED_ROW_COUNT)
        if let shift {
            tileBytes = Int(cuda_swizzled_e4m3_bytes(1, Int64(columns)))
            tileScaleBytes = Int(cuda_swizzled_e4m3_scale_bytes(1, Int64(columns), shift))
            rowBytes = columns / 32 * 36
        } else {
            (tileBytes, tileScaleBytes) = (Int(cuda_swizzled_bytes(1, Int64(columns))), 0)
            rowBytes = 2 * columns
        }
    }

    /// Tiles that are packed at a time, so that little memory is taken.
    var tilesAtOnce: Int { max(1, (16 << 20) / tileBytes) }

    /// The rows of some tiles.
    func rows(of tiles: Range<Int>) -> Range<Int> {
        let size = Int(CUDA_SWIZZLED_ROW_COUNT)
        return tiles.lowerBound * size..<min(rows, tiles.upperBound * size)
    }

    /// Packs the stored rows of some tiles, and their scales.
    func pack(_ source: [UInt8], tileCount: Int) -> (data: [UInt8], scales: [UInt8]) {
        var data = [UInt8](repeating: 0, count: tileCount * tileBytes)
        var scales = [UInt8](repeating: 0, count: tileCount * tileScaleBytes)
        let shareCount = min(tileCount, 16)
        let (count, columns) = (Int64(source.count / rowBytes), Int64(self.columns))
        let (tileBytes, tileScaleBytes, shift) = (tileBytes, tileScaleBytes, shift)
        unsafe source.withUnsafeBytes { source in
            unsafe data.withUnsafeMutableBytes { data in
                unsafe scales.withUnsafeMutableBytes { scales in
                    // Addresses cross to the threads, which write disjoint tiles and only read the source.
                    let from = UInt(bitPattern: source.baseAddress)
                    let (to, toScales) = (UInt(bitPattern: data.baseAddress), UInt(bitPattern: scales.baseAddress))
                    DispatchQueue.concurrentPerform(iterations: shareCount) { share in
                        let first = tileCount * share / shareCount
                        let own = Int64(tileCount * (share + 1) / shareCount - first)
                        let target = unsafe UnsafeMutablePointer<UInt8>(bitPattern: to + UInt(first * tileBytes))
                        guard let shift else {
                            return unsafe cuda_pack_swizzled(
                                UnsafePointer(bitPattern: from), count, columns, Int64(first), own, target)
                        }
                        unsafe cuda_pack_swizzled_e4m3(
                            UnsafePointer(bitPattern: from), count, columns, shift, Int64(first), own, target,
                            UnsafeMutablePointer(bitPattern: toScales + UInt(first * tileScaleBytes)))
                    }
                }
            }
        }
        return (data, scales)
    }
}
