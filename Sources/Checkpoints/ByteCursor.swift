// A position in untrusted bytes that can only move forward, and never past the end.
//
// Every binary format is read through this type. It has two rules: no arithmetic that can wrap or trap, and nothing
// is read, skipped or allocated before it is known to lie in the remaining bytes.

/// Reads little-endian values from bytes nobody has checked yet.
@safe
struct ByteCursor {
    /// The path of the file, for messages.
    let file: String
    /// Bytes from the start of the file to the next value; always in `0...bytes.count`.
    private(set) var offset = 0
    private let bytes: UnsafeRawBufferPointer

    /// A cursor at the first byte. `bytes` must outlive it.
    @unsafe
    init(_ bytes: UnsafeRawBufferPointer, file: String) {
        self.file = file
        unsafe self.bytes = bytes
    }

    /// Bytes from the cursor to the end of the file.
    var remainingByteCount: Int { unsafe bytes.count - offset }

    /// The next integer. `field` says what it is, for the message when the file ends first.
    mutating func read<Value: FixedWidthInteger>(
        _ type: Value.Type, _ field: @autoclosure () -> String
    ) throws(CheckpointError) -> Value {
        let size = MemoryLayout<Value>.size
        guard size <= remainingByteCount else { throw truncated(field(), needed: UInt64(size)) }
        let value = unsafe bytes.loadUnaligned(fromByteOffset: offset, as: Value.self)
        offset += size
        return Value(littleEndian: value)
    }

    /// Moves over `count` bytes and returns where they are.
    mutating func skip(_ count: UInt64, _ field: @autoclosure () -> String) throws(CheckpointError) -> Range<Int> {
        guard let count = Int(exactly: count), count <= remainingByteCount else {
            throw truncated(field(), needed: count)
        }
        let start = offset
        offset += count
        return start..<offset
    }

    /// Moves over `count` elements of `size` bytes each.
    mutating func skip(
        _ count: UInt64, of size: Int, _ field: @autoclosure () -> String
    ) throws(CheckpointError) -> Range<Int> {
        let (byteCount, overflow) = count.multipliedReportingOverflow(by: UInt64(size))
        return try skip(overflow ? .max : byteCount, field())
    }

    /// The next string: a 64-bit length and as many bytes of UTF-8.
    mutating func readString(limit: Int, _ field: @autoclosure () -> String) throws(CheckpointError) -> String {
        let start = offset
        let length = try read(UInt64.self, "the length of \(field())")
        guard length <= limit else {
            throw .overLimit(
                file: file, offset: start, field: "the length of \(field())", actual: length, limit: UInt64(limit))
        }
        let range = try skip(length, field())
        guard let text = unsafe String(validating: UnsafeRawBufferPointer(rebasing: bytes[range]), as: UTF8.self) else {
            throw .malformed(
                file: file, offset: range.lowerBound, field: field(), actual: "not UTF-8", expected: "UTF-8 text")
        }
        return text
    }

    /// Moves over `count` strings, each of at most `limit` bytes, without making any.
    ///
    /// A vocabulary is a hundred thousand of them, so this is one loop over locals rather than calls to `read`.
    mutating func skipStrings(
        _ count: UInt64, limit: Int, _ field: @autoclosure () -> String
    ) throws(CheckpointError) -> Range<Int> {
        let start = offset
        let end = unsafe bytes.count
        let prefix = MemoryLayout<UInt64>.size
        var position = offset
        var index: UInt64 = 0
        while index < count {
            guard end - position >= prefix else {
                offset = position
                throw truncated("element \(index) of \(field())", needed: UInt64(prefix))
            }
            let length = unsafe UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self))
            guard length <= limit, length <= end - position - prefix else {
                offset = position
                throw length > limit
                    ? .overLimit(
                        file: file, offset: position, field: "the length of element \(index) of \(field())",
                        actual: length, limit: UInt64(limit))
                    : truncated("element \(index) of \(field())", needed: length)
            }
            position += prefix + Int(length)
            index += 1
        }
        offset = position
        return start..<position
    }

    /// Moves to the next multiple of `alignment`, a power of two.
    mutating func align(to alignment: Int, _ field: @autoclosure () -> String) throws(CheckpointError) {
        _ = try skip(UInt64((alignment - offset % alignment) % alignment), field())
    }

    private func truncated(_ field: String, needed: UInt64) -> CheckpointError {
        .malformed(
            file: file, offset: offset, field: field, actual: "cut off after \(remainingByteCount) bytes",
            expected: "\(needed) bytes")
    }
}
