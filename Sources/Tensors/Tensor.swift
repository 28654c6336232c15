// Tensors: a typed, shaped view of memory that a backend owns.
//
// A `Tensor` knows where its bytes are but not how to touch them: the address is a host address on the CPU and a
// device address on CUDA, and only the backend that allocated it may dereference it.

/// Memory allocated by a backend; released when the last tensor over it goes away.
///
/// Not Sendable: buffers live and die on the engine thread.
package final class DeviceBuffer {
    /// Address of the first byte, in the address space of the backend that allocated it.
    package let address: UInt
    package let byteCount: Int
    private let free: (UInt, Int) -> Void

    /// - Parameter free: called once, with `address` and `byteCount`, when the buffer is released.
    package init(address: UInt, byteCount: Int, free: @escaping (UInt, Int) -> Void) {
        self.address = address
        self.byteCount = byteCount
        self.free = free
    }

    deinit { free(address, byteCount) }
}

/// A row-major view of a buffer.
package struct Tensor {
    package let buffer: DeviceBuffer
    /// Bytes from the start of the buffer to the first element.
    package let offsetBytes: Int
    package let shape: Shape
    package let dtype: DType

    package init(buffer: DeviceBuffer, offsetBytes: Int = 0, shape: Shape, dtype: DType) {
        self.buffer = buffer
        self.offsetBytes = offsetBytes
        self.shape = shape
        self.dtype = dtype
    }

    /// Address of the first element, in the backend's address space.
    package var address: UInt { buffer.address + UInt(offsetBytes) }

    package var elementCount: Int { shape.elementCount }

    /// Extent of the outermost dimension.
    package var rowCount: Int { shape[0] }

    /// Elements in one row: the product of all dimensions but the outermost.
    package var rowElementCount: Int { shape.rowElementCount }

    /// The first `count` rows, for steps that use less than the capacity. Shares the storage.
    package func prefix(rows count: Int) -> Tensor {
        precondition(count >= 0 && count <= rowCount, "prefix of \(count) rows of a tensor with \(rowCount)")
        return Tensor(buffer: buffer, offsetBytes: offsetBytes, shape: shape.replacing(rows: count), dtype: dtype)
    }

    /// Some of the rows, of a tensor whose elements are bytes or words and not blocks. Shares the storage.
    package func rows(_ range: Range<Int>) -> Tensor {
        precondition(range.lowerBound >= 0 && range.upperBound <= rowCount && !dtype.isQuantized, "rows \(range)")
        return Tensor(
            buffer: buffer, offsetBytes: offsetBytes + range.lowerBound * rowElementCount * dtype.blockByteCount,
            shape: shape.replacing(rows: range.count), dtype: dtype)
    }
}

/// A tensor as it lies in a checkpoint file.
///
/// Safe to hold: `owner` keeps the mapping alive. Reading `bytes` is what needs care.
@safe
package struct StoredTensor {
    package let name: String
    package let dtype: DType
    /// Extents, outermost first: a matrix is [rows (outputs), columns (inputs)].
    package let shape: [Int]
    /// The encoded elements, row-major; exactly as many bytes as `shape` and `dtype` call for.
    package let bytes: UnsafeRawBufferPointer
    /// Whether the checkpoint was made for inputs that are quantized as its weights are, each row by itself. A backend
    /// may then do so.
    package var quantizesInput = false
    /// Whatever keeps `bytes` valid: the mapped file, or a test's buffer.
    private let owner: AnyObject

    package init(name: String, dtype: DType, shape: [Int], bytes: UnsafeRawBufferPointer, owner: AnyObject) {
        self.name = name
        self.dtype = dtype
        self.shape = shape
        unsafe self.bytes = bytes
        self.owner = owner
    }

    /// The tensor of `shape` whose elements are the bytes in `range` of this one's.
    package func slice(bytes range: Range<Int>, shape: [Int]) -> StoredTensor {
        let part = unsafe UnsafeRawBufferPointer(rebasing: bytes[range])
        return unsafe StoredTensor(name: name, dtype: dtype, shape: shape, bytes: part, owner: owner)
    }

    /// The `index`-th of the tensors that are stacked along the outermost dimension.
    package func slice(_ index: Int) -> StoredTensor {
        precondition(shape.count > 1 && index >= 0 && index < shape[0], "slice \(index) of a tensor of \(shape)")
        let size = unsafe bytes.count / shape[0]
        let part = unsafe UnsafeRawBufferPointer(rebasing: bytes[index * size..<(index + 1) * size])
        var tensor = unsafe StoredTensor(
            name: "\(name)[\(index)]", dtype: dtype, shape: Array(shape.dropFirst()), bytes: part, owner: owner)
        tensor.quantizesInput = quantizesInput
        return tensor
    }
}
