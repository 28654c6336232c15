// The names by which the scheduler knows things.
//
// Each is its own type, so that a block number cannot be passed where a request or a token is meant.

/// A token of the model's vocabulary. Validated against the vocabulary before it reaches the scheduler.
package typealias TokenID = Int32

/// One request inside the engine. Made by the server and never repeated; a client's own id is only a label.
package struct RequestID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Increasing in the order of making.
    package let rawValue: UInt64

    /// Wraps a number the server has not used before.
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }

    package static func < (left: RequestID, right: RequestID) -> Bool { left.rawValue < right.rawValue }

    package var description: String { "request \(rawValue)" }
}

/// One block of the paged KV cache: `blockSize` consecutive slots, numbered from 0 to `blockCount - 1`.
package struct BlockID: Hashable, Sendable, CustomStringConvertible {
    /// The slot of a token is `rawValue * blockSize + position % blockSize`.
    package let rawValue: Int32

    /// Wraps a block number.
    package init(_ rawValue: Int32) { self.rawValue = rawValue }

    /// The number as an array index.
    var index: Int { Int(rawValue) }

    package var description: String { "block \(rawValue)" }
}
