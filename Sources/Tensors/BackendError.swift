// What a backend can refuse or fail at.

/// An error from a compute backend. Everything but `unsupported` is sticky: the engine stops serving.
package enum BackendError: Error, Equatable, CustomStringConvertible {
    /// The backend has no implementation of `operation` for these arguments. Thrown while loading, never while serving.
    case unsupported(operation: String, reason: String)
    /// An allocation of `byteCount` bytes for `purpose` failed.
    case outOfMemory(byteCount: Int, purpose: String)
    /// The device or the operating system reported an error; it cannot be relied on any more.
    case deviceFailure(operation: String, reason: String)

    package var description: String {
        switch self {
        case .unsupported(let operation, let reason):
            "This backend cannot perform \(operation): \(reason)."
        case .outOfMemory(let byteCount, let purpose):
            "Could not allocate \(byteCount) bytes for \(purpose). "
                + "Lower --kv-cache-memory-bytes or --max-num-batched-tokens."
        case .deviceFailure(let operation, let reason):
            "The device failed during \(operation): \(reason)."
        }
    }
}
