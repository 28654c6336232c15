// The vocabulary of a GGUF file: value types, tensor types, and what the parser makes of them.

import Tensors

/// The type of a metadata value, by its number in the file.
enum GGUFValueType: UInt32 {
    case uint8, int8, uint16, int16, uint32, int32, float32, bool, string, array, uint64, int64, float64

    /// Bytes of one value, or nil for strings and arrays, whose size is in the file.
    var byteCount: Int? {
        switch self {
        case .uint8, .int8, .bool: 1
        case .uint16, .int16: 2
        case .uint32, .int32, .float32: 4
        case .uint64, .int64, .float64: 8
        case .string, .array: nil
        }
    }
}

/// An array in the metadata. Its elements stay in the file until they are asked for.
package struct GGUFArray: Sendable, Equatable {
    let elementType: GGUFValueType
    /// How many elements the array has.
    package let count: Int
    /// Where the elements are in the file.
    let byteRange: Range<Int>
}

/// A metadata value.
package enum GGUFValue: Sendable, Equatable {
    case unsigned(UInt64)
    case signed(Int64)
    /// A 32-bit float is widened, which is exact.
    case float(Double)
    case boolean(Bool)
    case string(String)
    case array(GGUFArray)
}

/// A metadata value and where it stands in the file.
package struct GGUFEntry: Sendable, Equatable {
    package let value: GGUFValue
    /// Bytes from the start of the file to the value, for messages.
    package let offset: Int

    /// The value as a message shows it.
    package var summary: String {
        switch value {
        case .unsigned(let value): "\(value)"
        case .signed(let value): "\(value)"
        case .float(let value): "\(value)"
        case .boolean(let value): "\(value)"
        case .string(let value): "\"\(printable(value))\""
        case .array(let array): "an array of \(array.count) values of type \(array.elementType)"
        }
    }
}

/// A tensor as the file describes it.
package struct GGUFTensorInfo: Sendable, Equatable {
    package let name: String
    package let dtype: DType
    /// Extents, outermost first (the file has them innermost first).
    package let shape: [Int]
    /// Where the elements are in the file.
    package let byteRange: Range<Int>
    /// Bytes from the start of the file to this description, for messages.
    package let infoOffset: Int
}

/// Tensor types by their number in the file.
enum GGUFTensorType {
    /// The names of the format's tensor types, so that a refusal can name what it refuses.
    static let names: [UInt32: String] = [
        0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
        12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
        20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
        29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
    ]

    static let supportedNames =
        "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4"

    /// The element type of a supported number, or nil.
    static func dtype(_ number: UInt32) -> DType? {
        switch number {
        case 0: .f32
        case 1: .f16
        case 2: .q4_0
        case 3: .q4_1
        case 6: .q5_0
        case 7: .q5_1
        case 8: .q8_0
        case 10: .q2_k
        case 11: .q3_k
        case 12: .q4_k
        case 13: .q5_k
        case 14: .q6_k
        case 20: .iq4_nl
        case 23: .iq4_xs
        case 39: .mxfp4
        case 30: .bf16
        default: nil
        }
    }
}
