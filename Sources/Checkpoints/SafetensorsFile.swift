// One safetensors file: eight bytes of length, a JSON header that says where each tensor is, and the tensors.
//
// The header is checked against the format's own rules before a tensor is touched: sizes follow from type and shape,
// and the tensors cover the rest of the file without gap or overlap. A pickle is refused by its first bytes, whatever
// its name: reading one can run code.

import JSON
import Tensors

/// Limits a safetensors file must keep. Real headers are a tenth of this.
package struct SafetensorsLimits: Sendable {
    /// Bytes of the header, and of an index of several files.
    package var headerBytes = 16 << 20
    /// Tensors of a file.
    package var tensorCount = 100_000
    /// Dimensions of a tensor.
    package var dimensionCount = 8
    /// Bytes of a tensor's name.
    package var nameBytes = 512

    package init() {}
}

/// The format's element types.
package enum SafetensorsType: String, Sendable {
    case bool = "BOOL"
    case u8 = "U8"
    case i8 = "I8"
    case e5m2 = "F8_E5M2"
    case e4m3 = "F8_E4M3"
    case e8m0 = "F8_E8M0"
    case i16 = "I16"
    case u16 = "U16"
    case f16 = "F16"
    case bf16 = "BF16"
    case i32 = "I32"
    case u32 = "U32"
    case f32 = "F32"
    case f64 = "F64"
    case i64 = "I64"
    case u64 = "U64"

    /// Bytes of an element.
    package var byteCount: Int {
        switch self {
        case .bool, .u8, .i8, .e5m2, .e4m3, .e8m0: 1
        case .i16, .u16, .f16, .bf16: 2
        case .i32, .u32, .f32: 4
        case .f64, .i64, .u64: 8
        }
    }

    /// The same type of a tensor that is used as it lies in the file, or nil.
    var dtype: DType? {
        switch self {
        case .f32: .f32
        case .f16: .f16
        case .bf16: .bf16
        case .i32: .i32
        default: nil
        }
    }
}

/// A tensor as the header describes it.
package struct SafetensorsInfo: Sendable, Equatable {
    package let name: String
    package let type: SafetensorsType
    /// Extents, outermost first.
    package let shape: [Int]
    /// Where the elements are in the file.
    package let byteRange: Range<Int>
}

/// A safetensors file whose header is consistent with itself and with the file's size.
package struct SafetensorsFile: Sendable {
    /// Tensors in the order of their bytes.
    package let tensors: [SafetensorsInfo]
    /// The header's free-form texts.
    package let metadata: [(name: String, text: String)]
    let mapping: MappedFile

    /// The path as it was given.
    package var path: String { mapping.path }

    /// Opens and checks the file at `path`.
    package init(path: String, limits: SafetensorsLimits = SafetensorsLimits()) throws(CheckpointError) {
        try self.init(MappedFile(path: path), limits: limits)
    }

    /// Checks a file that is already in memory.
    package init(
        _ mapping: MappedFile, limits: SafetensorsLimits = SafetensorsLimits()
    ) throws(CheckpointError) {
        self.mapping = mapping
        try mapping.refusePickle()
        var cursor = unsafe ByteCursor(mapping.bytes, file: mapping.path)
        let length = try cursor.read(UInt64.self, "the length of the header")
        guard length <= UInt64(limits.headerBytes) else {
            throw .overLimit(
                file: mapping.path, offset: 0, field: "the length of the header", actual: length,
                limit: UInt64(limits.headerBytes))
        }
        let range = try cursor.skip(length, "the header")
        let text = unsafe [UInt8](mapping.bytes[range])
        guard text.first == UInt8(ascii: "{") else {
            throw .malformed(
                file: mapping.path, offset: 8, field: "the header's first byte",
                actual: text.first.map { "0x" + String($0, radix: 16) } ?? "missing", expected: "0x7b, an opening brace"
            )
        }
        var header = SafetensorsHeader(
            file: mapping.path, dataStart: range.upperBound, dataByteCount: cursor.remainingByteCount, limits: limits)
        try header.read(text)
        tensors = try header.placed()
        metadata = header.metadata
    }
}

/// What is read from a header, and the checks.
private struct SafetensorsHeader {
    let file: String
    let dataStart: Int
    let dataByteCount: Int
    let limits: SafetensorsLimits
    var tensors: [SafetensorsInfo] = []
    var metadata: [(name: String, text: String)] = []

    init(file: String, dataStart: Int, dataByteCount: Int, limits: SafetensorsLimits) {
        self.file = file
        self.dataStart = dataStart
        self.dataByteCount = dataByteCount
        self.limits = limits
    }

    mutating func read(_ text: [UInt8]) throws(CheckpointError) {
        var json = JSONLimits()
        json.depth = 3
        json.membersPerObject = max(16, limits.tensorCount + 1)
        for member in try object(text, offset: 8, field: "the header", limits: json, file: file) {
            if member.name == "__metadata__" {
                try readMetadata(member.value)
            } else {
                tensors.append(try tensor(member.name, member.value))
            }
        }
        guard tensors.count <= limits.tensorCount else {
            throw .overLimit(
                file: file, offset: 8, field: "the tensor count", actual: UInt64(tensors.count),
                limit: UInt64(limits.tensorCount))
        }
    }

    private mutating func readMetadata(_ value: JSONValue) throws(CheckpointError) {
        guard case .object(let members) = value else {
            throw malformed("__metadata__", value.kind, expected: "an object of strings")
        }
        for member in members {
            guard case .string(let text) = member.value else {
                throw malformed(
                    "\(printable(member.name)) of __metadata__", member.value.kind, expected: "a string")
            }
            metadata.append((member.name, text))
        }
    }

    private func tensor(_ name: String, _ value: JSONValue) throws(CheckpointError) -> SafetensorsInfo {
        guard !name.isEmpty, name.utf8.count <= limits.nameBytes else {
            throw malformed(
                "a tensor's name", "\(name.utf8.count) bytes long", expected: "1 to \(limits.nameBytes) bytes")
        }
        let field = "tensor \(printable(name))"
        guard case .object(let members) = value else {
            throw malformed(field, value.kind, expected: "an object with dtype, shape and data_offsets")
        }
        var type: SafetensorsType?
        var shape: [Int]?
        var offsets: [Int]?
        for member in members {
            switch member.name {
            case "dtype": type = try elementType(member.value, field)
            case "shape": shape = try integers(member.value, "the shape of \(field)", count: 0...limits.dimensionCount)
            case "data_offsets": offsets = try integers(member.value, "the data_offsets of \(field)", count: 2...2)
            default:
                throw malformed(
                    field, "described by \(printable(member.name)) too", expected: "dtype, shape and data_offsets only")
            }
        }
        guard let type, let shape, let offsets else {
            let missing = type == nil ? "dtype" : shape == nil ? "shape" : "data_offsets"
            throw malformed(field, "without \(missing)", expected: "dtype, shape and data_offsets")
        }
        guard offsets[0] <= offsets[1], offsets[1] <= dataByteCount else {
            throw malformed(
                "the data_offsets of \(field)", "\(offsets)",
                expected: "a range within the file's \(dataByteCount) bytes")
        }
        let size = shape.reduce(type.byteCount as Int?) { total, extent in
            guard let total else { return nil }
            let (product, overflow) = total.multipliedReportingOverflow(by: extent)
            return overflow ? nil : product
        }
        guard let size, size == offsets[1] - offsets[0] else {
            throw malformed(
                "the data_offsets of \(field)", "\(offsets), \(offsets[1] - offsets[0]) bytes",
                expected:
                    "\(size.map(String.init) ?? "more than 2^63") bytes, as its shape \(shape) of \(type.rawValue) has")
        }
        return SafetensorsInfo(
            name: name, type: type, shape: shape, byteRange: dataStart + offsets[0]..<dataStart + offsets[1])
    }

    private func elementType(_ value: JSONValue, _ field: String) throws(CheckpointError) -> SafetensorsType {
        guard case .string(let text) = value else {
            throw malformed("the dtype of \(field)", value.summary, expected: "a string")
        }
        guard let type = SafetensorsType(rawValue: text) else {
            throw .unsupported(
                file: file, offset: 8, field: "the dtype of \(field)", actual: printable(text),
                supported: "BOOL, integers of 8 to 64 bits, F8_E4M3, F8_E5M2, F8_E8M0, F16, BF16, F32 and F64")
        }
        return type
    }

    private func integers(
        _ value: JSONValue, _ field: String, count: ClosedRange<Int>
    ) throws(CheckpointError) -> [Int] {
        guard case .array(let elements) = value, count.contains(elements.count) else {
            throw malformed(
                field, value.summary,
                expected: count.count == 1 ? "a list of \(count.upperBound)" : "a list of at most \(count.upperBound)")
        }
        var result: [Int] = []
        for element in elements {
            guard case .integer(let number) = element, number >= 0 else {
                throw malformed(field, "a list with \(element.summary)", expected: "integers from 0")
            }
            result.append(number)
        }
        return result
    }

    /// The tensors in the order of their bytes, which must be all of the file's.
    func placed() throws(CheckpointError) -> [SafetensorsInfo] {
        let sorted = tensors.sorted {
            ($0.byteRange.lowerBound, $0.byteRange.upperBound) < ($1.byteRange.lowerBound, $1.byteRange.upperBound)
        }
        var end = dataStart
        for tensor in sorted {
            guard tensor.byteRange.lowerBound == end else {
                throw malformed(
                    "the data_offsets of tensor \(printable(tensor.name))",
                    "\(tensor.byteRange.lowerBound - dataStart) at their beginning",
                    expected: "\(end - dataStart), where the tensor before it ends")
            }
            end = tensor.byteRange.upperBound
        }
        guard end == dataStart + dataByteCount else {
            throw .malformed(
                file: file, offset: end, field: "the file's size", actual: "\(dataStart + dataByteCount)",
                expected: "\(end), where the last tensor ends")
        }
        return sorted
    }

    private func malformed(_ field: String, _ actual: String, expected: String) -> CheckpointError {
        .malformed(file: file, offset: 8, field: field, actual: actual, expected: expected)
    }
}

/// The members of the JSON object that `text` is. `offset` is where it starts in its file.
func object(
    _ text: [UInt8], offset: Int, field: String, limits: JSONLimits, file: String
) throws(CheckpointError) -> [JSONValue.Member] {
    let value: JSONValue
    do throws(JSONError) {
        value = try JSONParser.parse(text, limits: limits)
    } catch {
        throw .malformed(
            file: file, offset: offset + error.offset, field: field, actual: "not what it should be (\(error.reason))",
            expected: "a JSON object")
    }
    guard case .object(let members) = value else {
        throw .malformed(file: file, offset: offset, field: field, actual: value.kind, expected: "a JSON object")
    }
    return members
}

extension MappedFile {
    /// Throws when this is a pickle, by itself or in PyTorch's archive.
    func refusePickle() throws(CheckpointError) {
        let start = unsafe [UInt8](bytes.prefix(4))
        // Protocols 2 to 5, and what a zip archive begins with.
        let isPickle = start.count == 4 && start[0] == 0x80 && (2...5).contains(start[1])
        guard isPickle || start == [0x50, 0x4B, 0x03, 0x04] else { return }
        throw .unsupported(
            file: path, offset: 0, field: "the format",
            actual: isPickle ? "a Python pickle" : "a zip archive, as PyTorch keeps pickles in",
            supported: "safetensors and GGUF, which cannot run code when they are read")
    }
}
