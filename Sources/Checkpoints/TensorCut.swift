// The part of a stored tensor that one rank reads: some indices of one axis. Rows of a matrix are a slice of the mapped
// file; columns, and rows from several places, are copied out of it, and nothing else of the tensor is touched.

import Tensors

/// Some indices of one axis of a tensor.
package struct TensorCut: Sendable, Equatable {
    /// For whom.
    package let shard: Shard
    /// The axis, counted from the outermost.
    package let axis: Int
    /// How long it is in the whole tensor.
    package let extent: Int
    /// What is taken, range after range.
    package let ranges: [Range<Int>]

    package init(shard: Shard, axis: Int, extent: Int, ranges: [Range<Int>]) {
        self.shard = shard
        self.axis = axis
        self.extent = extent
        self.ranges = ranges
    }

    /// Indices taken.
    var count: Int { ranges.reduce(0) { $0 + $1.count } }

    /// What is taken of `axis`, which has `extent` indices in the whole tensor.
    func indices(of axis: Int, extent: Int) -> [Int] {
        axis == self.axis ? ranges.flatMap { Array($0) } : Array(0..<extent)
    }

    /// Those of what is taken, one after another, that `ranges` take of it.
    func taking(_ own: [Range<Int>]) -> TensorCut {
        let indices = indices(of: axis, extent: extent)
        let chosen = own.joined().map { indices[$0]..<indices[$0] + 1 }
        return TensorCut(shard: shard, axis: axis, extent: extent, ranges: chosen)
    }

    /// Throws unless the whole tensor has the axis, as long as it should be.
    func require(_ shape: [Int], of name: String, file: String, offset: Int) throws(CheckpointError) {
        guard axis < shape.count, shape[axis] == extent else {
            var expected = shape
            if axis < shape.count { expected[axis] = extent } else { expected.append(extent) }
            throw .wrongShape(file: file, offset: offset, name: name, actual: shape, expected: expected)
        }
    }

    /// Throws where a range begins or ends inside a block of `count` columns.
    func requireWholeBlocks(of dtype: DType, columns: Int, name: String, file: String) throws(CheckpointError) {
        let block = dtype.blockElementCount
        guard ranges.contains(where: { $0.lowerBound % block != 0 || $0.upperBound % block != 0 }) else { return }
        throw .indivisible(
            file: file, what: "blocks of \(block) columns in \(printable(name)) (\(dtype.rawValue))",
            count: columns / block, ranks: shard.count)
    }
}

extension TensorSource {
    /// The part of the tensor `name` that `cut` takes.
    package func storedTensor(_ name: String, cut: TensorCut) throws(CheckpointError) -> SourceTensor? {
        guard let found = storedTensor(name) else { return nil }
        return try found.part(cut, file: path)
    }
}

extension SourceTensor {
    /// The part of it that `cut` takes.
    func part(_ cut: TensorCut, file: String) throws(CheckpointError) -> SourceTensor {
        try cut.require(tensor.shape, of: tensor.name, file: file, offset: infoOffset)
        if cut.axis == tensor.shape.count - 1 {
            try cut.requireWholeBlocks(of: tensor.dtype, columns: cut.extent, name: tensor.name, file: file)
        }
        return SourceTensor(tensor: tensor.part(cut), infoOffset: infoOffset)
    }
}

extension StoredTensor {
    /// The part of it that `cut` takes, which ends at whole blocks.
    func part(_ cut: TensorCut) -> StoredTensor {
        // The axis is one of blocks, or of rows of them.
        let unit = cut.axis == shape.count - 1 ? dtype.blockElementCount : 1
        let stack = shape[..<cut.axis].reduce(1, *)
        let stride = unsafe bytes.count / max(1, stack)
        let unitBytes = stride / max(1, cut.extent / unit)
        let ranges = cut.ranges.map { $0.lowerBound / unit * unitBytes..<$0.upperBound / unit * unitBytes }
        var part = shape
        part[cut.axis] = cut.count
        if stack == 1, ranges.count == 1 { return slice(bytes: ranges[0], shape: part) }
        let count = ranges.reduce(0) { $0 + $1.count }
        let memory = unsafe MappedFile(byteCount: stack * count, path: name) { target in
            var place = 0
            for first in 0..<stack {
                for range in ranges {
                    let from = first * stride + range.lowerBound
                    let source = unsafe UnsafeRawBufferPointer(rebasing: bytes[from..<from + range.count])
                    unsafe UnsafeMutableRawBufferPointer(rebasing: target[place..<place + range.count])
                        .copyMemory(from: source)
                    place += range.count
                }
            }
        }
        return memory.tensor(name, dtype, shape: part, in: 0..<stack * count)
    }
}
