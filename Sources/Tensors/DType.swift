// The element types Apus stores and computes with.
//
// A quantized type is a block format: `blockElementCount` consecutive elements of a row share scales and
// occupy `blockByteCount` bytes. Plain types are blocks of one element, so byte sizes need no second case.

/// The element type of a tensor, as stored in a file or in memory.
package enum DType: String, Sendable, CaseIterable {
    case f32
    case f16
    case bf16
    case i32
    /// 32 signed 8-bit values and one f16 scale `d`: x = d · q.
    case q8_0
    /// 32 unsigned 4-bit values and one f16 scale `d`: x = d · (q − 8).
    case q4_0
    /// 32 unsigned 4-bit values, one f16 scale `d` and one f16 minimum `m`: x = d · q + m.
    case q4_1

    /// Elements that share one block of storage.
    package var blockElementCount: Int {
        switch self {
        case .f32, .f16, .bf16, .i32: 1
        case .q8_0, .q4_0, .q4_1: 32
        }
    }

    /// Bytes of one block of storage.
    package var blockByteCount: Int {
        switch self {
        case .f32, .i32: 4
        case .f16, .bf16: 2
        case .q8_0: 34
        case .q4_0: 18
        case .q4_1: 20
        }
    }

    /// Whether elements share scales, so that single elements are not addressable.
    package var isQuantized: Bool { blockElementCount > 1 }

    /// Bytes of a row of `elementCount` elements, or nil when the row is not a whole number of blocks or the size
    /// does not fit an `Int`.
    package func rowByteCount(elementCount: Int) -> Int? {
        guard elementCount >= 0, elementCount % blockElementCount == 0 else { return nil }
        let (bytes, overflow) = (elementCount / blockElementCount).multipliedReportingOverflow(by: blockByteCount)
        return overflow ? nil : bytes
    }
}
