// Stored matrices one below the other, and their rows in the order in which they are packed: those whose results are
// combined lie so that one thread of a product has both.

import CUDAKernels
import Tensors

/// Row blocks of equal type and width.
struct RowStack {
    private let parts: [StoredTensor]
    private let rowBytes: Int
    /// As in `cuda_matrix`.
    private let pairs: Int32

    init(_ parts: ArraySlice<StoredTensor>, rowBytes: Int, pairs: Int32) {
        self.parts = Array(parts)
        self.rowBytes = rowBytes
        self.pairs = pairs
    }

    /// The bytes of rows that are packed one after the other.
    func rows(_ range: Range<Int>) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: range.count * rowBytes)
        unsafe bytes.withUnsafeMutableBytes { target in
            for (place, packed) in range.enumerated() {
                let source = unsafe row(Int(cuda_paired_row(pairs, Int32(packed))))
                unsafe UnsafeMutableRawBufferPointer(rebasing: target[place * rowBytes..<(place + 1) * rowBytes])
                    .copyMemory(from: source)
            }
        }
        return bytes
    }

    private func row(_ index: Int) -> UnsafeRawBufferPointer {
        var inside = index
        for part in parts {
            if inside < part.shape[0] {
                return unsafe UnsafeRawBufferPointer(
                    rebasing: part.bytes[inside * rowBytes..<(inside + 1) * rowBytes])
            }
            inside -= part.shape[0]
        }
        preconditionFailure("row \(index) of a stack that has fewer")
    }
}

extension RowPairs {
    /// What `cuda_matrix` calls pairs, for rows from the `firstRow`-th of the whole on; 0 where they do not fit.
    func apart(rows: Int, firstRow: Int) -> Int32 {
        switch self {
        case .none: return 0
        case .neighbours: return rows % 16 == 0 && firstRow % 16 == 0 ? 1 : 0
        case .halves(let run):
            let fits = run > 0 && run % 16 == 0 && rows % run == 0 && firstRow % run == 0
            return fits ? Int32(run / 2) : 0
        }
    }
}
