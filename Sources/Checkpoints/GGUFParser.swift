// Reads the header of a GGUF file: metadata, then tensor descriptions, then the checks that need both.
//
// Nothing in the file is believed before it is compared with a limit or with the bytes that are there. The result is
// plain data; tensor bytes are not touched.

import Tensors

/// One pass over the header of a GGUF file.
struct GGUFParser {
    private var cursor: ByteCursor
    private let limits: GGUFLimits
    private let fileByteCount: Int

    /// What the header says, checked.
    struct Header {
        var version: UInt32 = 0
        var alignment = 32
        var metadata: [String: GGUFEntry] = [:]
        /// Metadata keys as they stand in the file.
        var keys: [String] = []
        /// Tensors as they stand in the file.
        var tensors: [GGUFTensorInfo] = []
    }

    /// What a tensor's description says before its place in the file is known.
    private struct TensorDescription {
        let name: String
        let dtype: DType
        let shape: [Int]
        let byteCount: Int
        /// Bytes from the start of the data section.
        let dataOffset: UInt64
        let infoOffset: Int
    }

    init(_ cursor: ByteCursor, limits: GGUFLimits) {
        self.cursor = cursor
        self.limits = limits
        fileByteCount = cursor.remainingByteCount
    }

    mutating func parse() throws(CheckpointError) -> Header {
        var header = Header()
        try parseMagic()
        header.version = try parseVersion()
        let tensorCount = try parseCount("the tensor count", limit: limits.tensorCount, minimumBytes: 33)
        let metadataCount = try parseCount("the metadata count", limit: limits.metadataCount, minimumBytes: 14)
        for index in 0..<metadataCount { try parseEntry(index, into: &header) }
        header.alignment = try alignment(header.metadata["general.alignment"])
        var descriptions: [TensorDescription] = []
        descriptions.reserveCapacity(tensorCount)
        for index in 0..<tensorCount { descriptions.append(try parseTensor(index)) }
        try cursor.align(to: header.alignment, "the padding before the tensor data")
        header.tensors = try place(descriptions, dataStart: cursor.offset, alignment: header.alignment)
        return header
    }

    // MARK: Counts

    private mutating func parseMagic() throws(CheckpointError) {
        let magic = try cursor.read(UInt32.self, "the magic number")
        guard magic == 0x4655_4747 else {
            let actual = "0x" + String(magic.byteSwapped, radix: 16)
            throw malformed(0, "the magic number", actual, expected: "0x47475546, \"GGUF\"")
        }
    }

    private mutating func parseVersion() throws(CheckpointError) -> UInt32 {
        let offset = cursor.offset
        let version = try cursor.read(UInt32.self, "the version")
        guard (2...3).contains(version) else {
            let isSwapped = (1...3).contains(version.byteSwapped)
            throw .unsupported(
                file: cursor.file, offset: offset, field: "the version",
                actual: isSwapped ? "\(version.byteSwapped) in big-endian order" : "\(version)",
                supported: "2 and 3, little-endian")
        }
        return version
    }

    /// A count of things that take at least `minimumBytes` each.
    private mutating func parseCount(
        _ field: String, limit: UInt64, minimumBytes: Int
    ) throws(CheckpointError) -> Int {
        let offset = cursor.offset
        let count = try cursor.read(UInt64.self, field)
        guard count <= limit else {
            throw .overLimit(file: cursor.file, offset: offset, field: field, actual: count, limit: limit)
        }
        let fitting = cursor.remainingByteCount / minimumBytes
        guard let result = Int(exactly: count), result <= fitting else {
            throw malformed(
                offset, field, "\(count)", expected: "at most \(fitting), which is what the file has room for")
        }
        return result
    }

    // MARK: Metadata

    private mutating func parseEntry(_ index: Int, into header: inout Header) throws(CheckpointError) {
        let offset = cursor.offset
        let key = try cursor.readString(limit: limits.keyBytes, "the key of metadata entry \(index)")
        guard !key.isEmpty else {
            throw malformed(offset, "the key of metadata entry \(index)", "empty", expected: "a name")
        }
        guard header.metadata[key] == nil else {
            throw malformed(offset, "metadata \(printable(key))", "there twice", expected: "one value per key")
        }
        let type = try parseType(of: key)
        let valueOffset = cursor.offset
        header.metadata[key] = GGUFEntry(value: try parseValue(type, of: key), offset: valueOffset)
        header.keys.append(key)
    }

    private mutating func parseType(of key: String) throws(CheckpointError) -> GGUFValueType {
        let offset = cursor.offset
        let number = try cursor.read(UInt32.self, "the type of \(printable(key))")
        guard let type = GGUFValueType(rawValue: number) else {
            throw malformed(offset, "the type of \(printable(key))", "\(number)", expected: "0 to 12")
        }
        return type
    }

    private mutating func parseValue(_ type: GGUFValueType, of key: String) throws(CheckpointError) -> GGUFValue {
        let offset = cursor.offset
        switch type {
        case .uint8: return .unsigned(UInt64(try cursor.read(UInt8.self, printable(key))))
        case .uint16: return .unsigned(UInt64(try cursor.read(UInt16.self, printable(key))))
        case .uint32: return .unsigned(UInt64(try cursor.read(UInt32.self, printable(key))))
        case .uint64: return .unsigned(try cursor.read(UInt64.self, printable(key)))
        case .int8: return .signed(Int64(try cursor.read(Int8.self, printable(key))))
        case .int16: return .signed(Int64(try cursor.read(Int16.self, printable(key))))
        case .int32: return .signed(Int64(try cursor.read(Int32.self, printable(key))))
        case .int64: return .signed(try cursor.read(Int64.self, printable(key)))
        case .float32: return .float(Double(Float(bitPattern: try cursor.read(UInt32.self, printable(key)))))
        case .float64: return .float(Double(bitPattern: try cursor.read(UInt64.self, printable(key))))
        case .bool:
            let byte = try cursor.read(UInt8.self, printable(key))
            guard byte <= 1 else { throw malformed(offset, printable(key), "\(byte)", expected: "0 or 1") }
            return .boolean(byte == 1)
        case .string:
            let isTemplate = key == "tokenizer.chat_template" || key.hasPrefix("tokenizer.chat_template.")
            let limit = isTemplate ? limits.templateBytes : limits.stringBytes
            return .string(try cursor.readString(limit: limit, printable(key)))
        case .array: return .array(try parseArray(of: key))
        }
    }

    private mutating func parseArray(of key: String) throws(CheckpointError) -> GGUFArray {
        let field = "the array \(printable(key))"
        let elementType = try parseType(of: key)
        let offset = cursor.offset
        guard elementType != .array else {
            throw .unsupported(
                file: cursor.file, offset: offset, field: field, actual: "an array of arrays",
                supported: "arrays of numbers, booleans and strings")
        }
        let count = try cursor.read(UInt64.self, "the length of \(field)")
        guard count <= limits.arrayElements, let elementCount = Int(exactly: count) else {
            throw .overLimit(
                file: cursor.file, offset: offset, field: "the length of \(field)", actual: count,
                limit: limits.arrayElements)
        }
        let range =
            if let size = elementType.byteCount {
                try cursor.skip(count, of: size, field)
            } else {
                try cursor.skipStrings(count, limit: limits.stringBytes, field)
            }
        return GGUFArray(elementType: elementType, count: elementCount, byteRange: range)
    }

    private func alignment(_ entry: GGUFEntry?) throws(CheckpointError) -> Int {
        guard let entry else { return 32 }
        guard case .unsigned(let value) = entry.value, let alignment = Int(exactly: value),
            limits.alignment.contains(alignment), alignment.nonzeroBitCount == 1
        else {
            throw malformed(
                entry.offset, "general.alignment", entry.summary,
                expected: "a power of two from \(limits.alignment.lowerBound) to \(limits.alignment.upperBound)")
        }
        return alignment
    }

    // MARK: Tensors

    private mutating func parseTensor(_ index: Int) throws(CheckpointError) -> TensorDescription {
        let infoOffset = cursor.offset
        let name = try cursor.readString(limit: limits.tensorNameBytes, "the name of tensor \(index)")
        guard !name.isEmpty else {
            throw malformed(infoOffset, "the name of tensor \(index)", "empty", expected: "a name")
        }
        let field = "tensor \(printable(name))"
        let shape = try parseShape(of: field)
        let typeOffset = cursor.offset
        let number = try cursor.read(UInt32.self, "the type of \(field)")
        guard let dtype = GGUFTensorType.dtype(number) else {
            throw .unsupported(
                file: cursor.file, offset: typeOffset, field: "the type of \(field)",
                actual: GGUFTensorType.names[number] ?? "number \(number)", supported: GGUFTensorType.supportedNames)
        }
        guard let byteCount = Self.byteCount(shape, dtype) else {
            throw malformed(
                typeOffset, "the row length of \(field)", "\(shape.last ?? 0)",
                expected: "a multiple of \(dtype.blockElementCount), the block of \(GGUFTensorType.names[number] ?? "")"
            )
        }
        let dataOffset = try cursor.read(UInt64.self, "the offset of \(field)")
        return TensorDescription(
            name: name, dtype: dtype, shape: shape, byteCount: byteCount, dataOffset: dataOffset,
            infoOffset: infoOffset)
    }

    /// Extents, outermost first, whose product fits an `Int`.
    private mutating func parseShape(of field: String) throws(CheckpointError) -> [Int] {
        let offset = cursor.offset
        let count = try cursor.read(UInt32.self, "the dimension count of \(field)")
        guard count >= 1, count <= limits.dimensionCount else {
            throw malformed(
                offset, "the dimension count of \(field)", "\(count)", expected: "1 to \(limits.dimensionCount)")
        }
        var shape: [Int] = []
        var product = 1
        for index in 0..<count {
            let offset = cursor.offset
            let value = try cursor.read(UInt64.self, "dimension \(index) of \(field)")
            guard value > 0, let extent = Int(exactly: value) else {
                throw malformed(offset, "dimension \(index) of \(field)", "\(value)", expected: "1 to \(Int.max)")
            }
            let (next, overflow) = product.multipliedReportingOverflow(by: extent)
            guard !overflow else {
                throw malformed(
                    offset, "dimension \(index) of \(field)", "\(value)", expected: "an element count below 2^63")
            }
            product = next
            shape.append(extent)
        }
        return shape.reversed()
    }

    private static func byteCount(_ shape: [Int], _ dtype: DType) -> Int? {
        guard let columns = shape.last, let rowBytes = dtype.rowByteCount(elementCount: columns) else { return nil }
        var total = rowBytes
        for extent in shape.dropLast() {
            let (next, overflow) = total.multipliedReportingOverflow(by: extent)
            if overflow { return nil }
            total = next
        }
        return total
    }

    /// Turns offsets into ranges of the file. Tensors must cover the data section exactly: each starts where the one
    /// before it ends, rounded up to the alignment, and the file ends with the last.
    private func place(
        _ descriptions: [TensorDescription], dataStart: Int, alignment: Int
    ) throws(CheckpointError) -> [GGUFTensorInfo] {
        var seen: Set<String> = []
        for description in descriptions where !seen.insert(description.name).inserted {
            throw malformed(
                description.infoOffset, "tensor \(printable(description.name))", "there twice",
                expected: "one tensor per name")
        }
        var expected = dataStart
        var end = dataStart
        var ranges: [Int: Range<Int>] = [:]
        for (index, description) in descriptions.enumerated().sorted(by: {
            $0.element.dataOffset < $1.element.dataOffset
        }) {
            let field = "tensor \(printable(description.name))"
            guard description.dataOffset == UInt64(expected - dataStart) else {
                throw malformed(
                    description.infoOffset, "the offset of \(field)", "\(description.dataOffset)",
                    expected: "\(expected - dataStart), where the tensor before it ends")
            }
            guard expected <= fileByteCount, description.byteCount <= fileByteCount - expected else {
                throw malformed(
                    description.infoOffset, "the size of \(field)", "\(description.byteCount)",
                    expected: "at most \(max(0, fileByteCount - expected)), which is what the file holds from there")
            }
            end = expected + description.byteCount
            ranges[index] = expected..<end
            expected = end + (alignment - end % alignment) % alignment
        }
        guard fileByteCount >= end, fileByteCount <= max(end, expected) else {
            throw malformed(end, "the file's size", "\(fileByteCount)", expected: "\(end), where the last tensor ends")
        }
        return descriptions.enumerated().compactMap { index, description in
            ranges[index].map {
                GGUFTensorInfo(
                    name: description.name, dtype: description.dtype, shape: description.shape, byteRange: $0,
                    infoOffset: description.infoOffset)
            }
        }
    }

    private func malformed(_ offset: Int, _ field: String, _ actual: String, expected: String) -> CheckpointError {
        .malformed(file: cursor.file, offset: offset, field: field, actual: actual, expected: expected)
    }
}
