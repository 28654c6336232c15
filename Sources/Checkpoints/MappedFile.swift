// A read-only memory mapping of a regular file.
//
// The address is kept as an integer, as `DeviceBuffer` does: the mapping never changes, so any thread may hold it, and
// only the places that turn the integer back into a pointer need care.

import Tensors

#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// The bytes of a checkpoint, for as long as the object lives.
package final class MappedFile: Sendable {
    /// The path as it was given, for messages.
    package let path: String
    /// Size of the file in bytes.
    package let byteCount: Int

    private let address: UInt
    private let identity: Identity?
    private let storage: Storage

    /// Who gives the memory back.
    private enum Storage: Sendable { case mapped, copied, unowned }

    /// What must not change while the file is in use.
    private struct Identity: Sendable {
        let device: UInt64
        let inode: UInt64
        let byteCount: Int64
        /// Time of the last modification, in nanoseconds since 1970.
        let modified: Int64
    }

    /// Maps the regular file at `path`. The size is taken again after mapping: touching a mapped page beyond the end
    /// of a file that shrank meanwhile would kill the process.
    package init(path: String) throws(CheckpointError) {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw .cannotOpen(file: path, reason: systemMessage(errno)) }
        defer { close(descriptor) }
        let before = try Self.identity(of: descriptor, path: path)
        guard before.byteCount > 0, let byteCount = Int(exactly: before.byteCount) else {
            throw .cannotOpen(file: path, reason: "its size is \(before.byteCount) bytes")
        }
        guard let mapping = unsafe mmap(nil, byteCount, PROT_READ, MAP_PRIVATE, descriptor, 0),
            unsafe mapping != MAP_FAILED
        else {
            throw .cannotOpen(file: path, reason: "mapping \(byteCount) bytes failed, \(systemMessage(errno))")
        }
        self.path = path
        self.byteCount = byteCount
        address = UInt(bitPattern: mapping)
        identity = before
        storage = .mapped
        // Advice only: loading is correct, just slower, where it is refused.
        _ = unsafe madvise(mapping, byteCount, MADV_WILLNEED)
        let after = try Self.identity(of: descriptor, path: path)
        guard after.byteCount == before.byteCount else {
            throw .changedWhileOpen(
                file: path, field: "size", actual: after.byteCount, expected: before.byteCount)
        }
    }

    /// Presents a copy of `bytes` as a file.
    package init(copying bytes: [UInt8], path: String) {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 4096)
        unsafe copy.copyBytes(from: bytes)
        self.path = path
        byteCount = bytes.count
        address = UInt(bitPattern: copy.baseAddress)
        identity = nil
        storage = .copied
    }

    /// Presents `byteCount` bytes that `fill` writes, all of them.
    init(byteCount: Int, path: String, fill: (UnsafeMutableRawBufferPointer) -> Void) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 4096)
        unsafe fill(memory)
        self.path = path
        self.byteCount = byteCount
        address = UInt(bitPattern: memory.baseAddress)
        identity = nil
        storage = .copied
    }

    /// Presents `byteCount` bytes that repeat `pattern`, which is not empty, as a file.
    package init(repeating pattern: [UInt8], byteCount: Int, path: String) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 4096)
        for start in stride(from: 0, to: byteCount, by: pattern.count) {
            let count = min(pattern.count, byteCount - start)
            unsafe UnsafeMutableRawBufferPointer(rebasing: memory[start..<start + count])
                .copyBytes(from: pattern.prefix(count))
        }
        self.path = path
        self.byteCount = byteCount
        address = UInt(bitPattern: memory.baseAddress)
        identity = nil
        storage = .copied
    }

    /// Presents memory that is already there as a file, without copying or owning it.
    ///
    /// `bytes` must stay valid and unchanged while this object or a tensor read through it lives, and start at a
    /// multiple of the file's alignment.
    @unsafe
    package init(unownedBytes bytes: UnsafeRawBufferPointer, path: String) {
        self.path = path
        byteCount = bytes.count
        address = UInt(bitPattern: bytes.baseAddress)
        identity = nil
        storage = .unowned
    }

    deinit {
        let start = unsafe UnsafeMutableRawPointer(bitPattern: address)
        switch storage {
        case .mapped: unsafe munmap(start, byteCount)
        case .copied: unsafe start?.deallocate()
        case .unowned: break
        }
    }

    /// All bytes of the file; valid while this object lives.
    @unsafe
    package var bytes: UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: address), count: byteCount)
    }

    /// The tensor whose elements are the bytes in `range`; it keeps the file open.
    func tensor(_ name: String, _ dtype: DType, shape: [Int], in range: Range<Int>) -> StoredTensor {
        unsafe StoredTensor(
            name: name, dtype: dtype, shape: shape, bytes: UnsafeRawBufferPointer(rebasing: bytes[range]), owner: self)
    }

    /// Throws when the file at `path` is no longer the one that was opened: what was read since cannot be trusted.
    package func requireUnchanged() throws(CheckpointError) {
        guard let identity else { return }
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw .cannotOpen(file: path, reason: systemMessage(errno)) }
        defer { close(descriptor) }
        let now = try Self.identity(of: descriptor, path: path)
        // Another file renamed over the path leaves the mapping intact.
        guard now.device == identity.device, now.inode == identity.inode else { return }
        guard now.byteCount == identity.byteCount else {
            throw .changedWhileOpen(file: path, field: "size", actual: now.byteCount, expected: identity.byteCount)
        }
        guard now.modified == identity.modified else {
            throw .changedWhileOpen(
                file: path, field: "modification time", actual: now.modified, expected: identity.modified)
        }
    }

    private static func identity(of descriptor: Int32, path: String) throws(CheckpointError) -> Identity {
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else {
            throw .cannotOpen(file: path, reason: systemMessage(errno))
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw .cannotOpen(file: path, reason: "it is not a regular file")
        }
        #if canImport(Darwin)
            let modified = status.st_mtimespec
        #else
            let modified = status.st_mtim
        #endif
        return Identity(
            device: UInt64(truncatingIfNeeded: status.st_dev), inode: UInt64(status.st_ino),
            byteCount: Int64(status.st_size),
            modified: Int64(modified.tv_sec).multipliedReportingOverflow(by: 1_000_000_000).partialValue
                &+ Int64(modified.tv_nsec))
    }
}

/// The operating system's sentence for an error number.
private func systemMessage(_ code: Int32) -> String {
    var buffer = [CChar](repeating: 0, count: 256)
    guard unsafe strerror_r(code, &buffer, buffer.count) == 0 else { return "error \(code)" }
    return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}
