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
    /// 32 unsigned 5-bit values and one f16 scale `d`: x = d · (q − 16).
    case q5_0
    /// 32 unsigned 5-bit values, one f16 scale `d` and one f16 minimum `m`: x = d · q + m.
    case q5_1
    /// 256 unsigned 2-bit values; 4-bit scales `s` and minima `m` of each 16, f16 `d` and `e`: x = d · s · q − e · m.
    case q2_k
    /// 256 signed 3-bit values; 6-bit scales `s` of each 16, f16 `d`: x = d · (s − 32) · q.
    case q3_k
    /// 256 unsigned 4-bit values; 6-bit scales `s` and minima `m` of each 32, f16 `d` and `e`: x = d · s · q − e · m.
    case q4_k
    /// 256 unsigned 5-bit values, otherwise as `q4_k`.
    case q5_k
    /// 256 unsigned 6-bit values; signed 8-bit scales `s` of each 16, f16 `d`: x = d · s · (q − 32).
    case q6_k
    /// 32 places in a table of 16 integers `t` and one f16 scale `d`: x = d · t[q].
    case iq4_nl
    /// 256 places in the same table; 6-bit scales `s` of each 32, f16 `d`: x = d · (s − 32) · t[q].
    case iq4_xs
    /// 32 four-bit floats `q` (E2M1) and the exponent `e` of their scale: x = 2^(e − 127) · q.
    case mxfp4
    /// An f32 scale `d`, a byte `z`, and 32 unsigned 4-bit values: x = d · (q − z). What other checkpoints' groups
    /// of 4-bit values become.
    case int4
    /// An f32 scale `d`, a byte `z`, and 32 unsigned 8-bit values: x = d · (q − z).
    case int8
    /// An f32 scale `d` and 32 floats `q` of 8 bits (E4M3): x = d · q. A block with a NaN has it as its scale.
    case e4m3

    /// Elements that share one block of storage.
    package var blockElementCount: Int {
        switch self {
        case .f32, .f16, .bf16, .i32: 1
        case .q8_0, .q4_0, .q4_1, .q5_0, .q5_1, .iq4_nl, .mxfp4, .int4, .int8, .e4m3: 32
        case .q2_k, .q3_k, .q4_k, .q5_k, .q6_k, .iq4_xs: 256
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
        case .q5_0: 22
        case .q5_1: 24
        case .q2_k: 84
        case .q3_k: 110
        case .q4_k: 144
        case .q5_k: 176
        case .q6_k: 210
        case .iq4_nl: 18
        case .iq4_xs: 136
        case .mxfp4: 17
        case .int4: 21
        case .int8: 37
        case .e4m3: 36
        }
    }

    /// Whether an element is a product and a minimum, two terms that may cancel.
    package var hasMinimum: Bool {
        switch self {
        case .q4_1, .q5_1, .q2_k, .q4_k, .q5_k: true
        default: false
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
