// The few calls to the operating system that decide whether a file is all there or not there at all.

import Foundation

/// An exclusive lock on a file, held until the value goes away, also when the process is killed.
struct FileLock: ~Copyable {
    private let descriptor: Int32

    /// Takes the lock, or returns nil when another process or thread has it.
    static func attempt(path: String) throws(PullError) -> FileLock? {
        let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw systemError("open the lock", path) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            close(descriptor)
            if code == EWOULDBLOCK || code == EINTR { return nil }
            throw systemError("lock", path, code)
        }
        return FileLock(descriptor: descriptor)
    }

    private init(descriptor: Int32) { self.descriptor = descriptor }

    deinit { close(descriptor) }
}

/// What tells one state of a file from another without reading it.
struct FileIdentity: Equatable, Codable {
    let byteCount: Int64
    let inode: UInt64
    /// Time of the last modification, in nanoseconds since 1970.
    let modified: Int64

    /// The identity of the regular file at `path`, or nil when there is none.
    static func of(_ path: String) -> FileIdentity? {
        var status = stat()
        guard unsafe stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        #if canImport(Darwin)
            let modified = status.st_mtimespec
        #else
            let modified = status.st_mtim
        #endif
        return FileIdentity(
            byteCount: Int64(status.st_size), inode: UInt64(status.st_ino),
            modified: Int64(modified.tv_sec) &* 1_000_000_000 &+ Int64(modified.tv_nsec))
    }
}

/// Puts the file at `source` in place of whatever is at `destination`, in one step that also survives a power cut.
/// The content must have been synchronised.
func renameIntoPlace(_ source: String, _ destination: String) throws(PullError) {
    guard unsafe rename(source, destination) == 0 else { throw systemError("rename a file to", destination) }
    let folder = (destination as NSString).deletingLastPathComponent
    let descriptor = unsafe open(folder, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw systemError("open", folder) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw systemError("synchronise", folder) }
}

/// Runs a Foundation call and says what it was for when it fails.
func fileSystem<Value>(
    _ operation: String, _ path: String, _ body: () throws -> Value
) throws(PullError) -> Value {
    do {
        return try body()
    } catch {
        let underlying = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError
        let reason = underlying?.localizedDescription ?? error.localizedDescription
        throw .fileSystem(operation: operation, path: path, reason: reason)
    }
}

private func systemError(_ operation: String, _ path: String, _ code: Int32 = errno) -> PullError {
    let reason = POSIXErrorCode(rawValue: code).map { POSIXError($0).localizedDescription } ?? "error \(code)"
    return .fileSystem(operation: operation, path: path, reason: reason)
}
