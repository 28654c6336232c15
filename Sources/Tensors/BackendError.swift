// What a backend can refuse or fail at.

/// An error from a compute backend. Everything but `unsupported` and `lostStep` is sticky: the engine stops serving.
package enum BackendError: Error, Equatable, CustomStringConvertible {
    /// The backend has no implementation of `operation` for these arguments. Thrown while loading, never while serving.
    case unsupported(operation: String, reason: String)
    /// An allocation of `byteCount` bytes for `purpose` failed.
    case outOfMemory(byteCount: Int, purpose: String)
    /// One step came to nothing, but the device is sound: it may be tried again. What the step wrote is undefined.
    case lostStep(operation: String, reason: String)
    /// The device or the operating system reported an error; it cannot be relied on any more.
    case deviceFailure(operation: String, reason: String)
    /// A rank of the group that computes the model failed or did not come, so no rank can go on.
    case rankFailure(RankFailure)

    package var description: String {
        switch self {
        case .unsupported(let operation, let reason):
            "This backend cannot perform \(operation): \(reason)."
        case .outOfMemory(let byteCount, let purpose):
            "Could not allocate \(byteCount) bytes for \(purpose). "
                + "Lower --kv-cache-memory-bytes or --max-num-batched-tokens."
        case .lostStep(let operation, let reason):
            "A step failed during \(operation): \(reason)."
        case .deviceFailure(let operation, let reason):
            "The device failed during \(operation): \(reason)."
        case .rankFailure(let failure): failure.description
        }
    }
}
