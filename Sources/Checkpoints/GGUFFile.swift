// An open GGUF checkpoint: typed access to its metadata and its tensors.
//
// The header is parsed and checked once; the vocabulary and the weights stay in the mapping until they are asked for,
// so opening a model costs about as much as reading its header.

import Tensors

/// A GGUF file of version 2 or 3 whose header is consistent with itself and with the file's size.
package struct GGUFFile: Sendable {
    /// The path as it was given: of the first part, where there are several.
    package var path: String { mapping.path }
    /// Size of the file in bytes, or of all its parts.
    package var byteCount: Int { mapping.byteCount + others.reduce(0) { $0 + $1.mapping.byteCount } }
    /// The format's version, 2 or 3.
    package let version: UInt32
    /// Tensor data starts at multiples of this many bytes.
    package let alignment: Int
    /// Metadata keys in the order of the file.
    package let keys: [String]
    /// Tensors in the order of the file, of all parts.
    package let tensors: [GGUFTensorInfo]

    private let metadata: [String: GGUFEntry]
    private let tensorIndices: [String: Int]
    private let mapping: MappedFile
    /// The further parts of a checkpoint that was split, and the index of each one's first tensor.
    private let others: [(mapping: MappedFile, firstTensor: Int)]

    /// Opens and checks the file at `path`, and the parts that follow it where it is the first of several.
    package init(path: String, limits: GGUFLimits = GGUFLimits()) throws(CheckpointError) {
        let first = try GGUFFile(part: MappedFile(path: path), limits: limits)
        let parts = try GGUFParts(of: first)
        var others: [GGUFFile] = []
        for index in 1..<max(1, parts.count) {
            let part = try GGUFFile(part: MappedFile(path: parts.path(of: index)), limits: limits)
            try parts.require(part, is: index)
            others.append(part)
        }
        try self.init(first, and: others)
        try parts.require(tensorCount: tensors.count)
    }

    /// Checks a file that is already in memory.
    package init(_ mapping: MappedFile, limits: GGUFLimits = GGUFLimits()) throws(CheckpointError) {
        try self.init(part: mapping, limits: limits)
        guard try GGUFParts(of: self).count <= 1 else {
            throw .malformed(
                file: path, offset: metadata["split.count"]?.offset ?? 0, field: "split.count", actual: "above 1",
                expected: "a file that is whole")
        }
    }

    /// All tensors of the parts, with the metadata of the first.
    private init(_ first: GGUFFile, and others: [GGUFFile]) throws(CheckpointError) {
        var tensors = first.tensors
        var indices = first.tensorIndices
        var further: [(mapping: MappedFile, firstTensor: Int)] = []
        for part in others {
            further.append((part.mapping, tensors.count))
            for (index, tensor) in part.tensors.enumerated() {
                guard indices.updateValue(tensors.count + index, forKey: tensor.name) == nil else {
                    throw .malformed(
                        file: part.path, offset: tensor.infoOffset, field: "tensor \(printable(tensor.name))",
                        actual: "in another part too", expected: "one tensor per name")
                }
            }
            tensors += part.tensors
        }
        version = first.version
        alignment = first.alignment
        keys = first.keys
        metadata = first.metadata
        self.tensors = tensors
        tensorIndices = indices
        mapping = first.mapping
        self.others = further
    }

    /// Checks one file, whatever it is a part of.
    private init(part mapping: MappedFile, limits: GGUFLimits) throws(CheckpointError) {
        var parser = unsafe GGUFParser(ByteCursor(mapping.bytes, file: mapping.path), limits: limits)
        let header = try parser.parse()
        version = header.version
        alignment = header.alignment
        keys = header.keys
        metadata = header.metadata
        tensors = header.tensors
        tensorIndices = Dictionary(
            header.tensors.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
        self.mapping = mapping
        others = []
    }

    // MARK: Metadata

    /// The entry under `key`, or nil.
    package subscript(key key: String) -> GGUFEntry? { metadata[key] }

    /// The integer under `key`, or nil when there is none; throws when it is not an integer in `range`.
    package func integer(_ key: String, in range: ClosedRange<Int>) throws(CheckpointError) -> Int? {
        guard let entry = metadata[key] else { return nil }
        let value: Int? =
            switch entry.value {
            case .unsigned(let value): Int(exactly: value)
            case .signed(let value): Int(exactly: value)
            case .float, .boolean, .string, .array: nil
            }
        guard let value, range.contains(value) else {
            throw wrongValue(entry, key, expected: "an integer from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// The number under `key`, or nil when there is none; throws when it is not a finite number in `range`.
    package func number(_ key: String, in range: ClosedRange<Double>) throws(CheckpointError) -> Double? {
        guard let entry = metadata[key] else { return nil }
        guard case .float(let value) = entry.value, range.contains(value) else {
            throw wrongValue(entry, key, expected: "a float from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// The boolean under `key`, or nil when there is none.
    package func boolean(_ key: String) throws(CheckpointError) -> Bool? {
        guard let entry = metadata[key] else { return nil }
        guard case .boolean(let value) = entry.value else { throw wrongValue(entry, key, expected: "a boolean") }
        return value
    }

    /// The string under `key`, or nil when there is none.
    package func string(_ key: String) throws(CheckpointError) -> String? {
        guard let entry = metadata[key] else { return nil }
        guard case .string(let value) = entry.value else { throw wrongValue(entry, key, expected: "a string") }
        return value
    }

    /// The strings under `key`, or nil when there are none.
    package func strings(_ key: String) throws(CheckpointError) -> PackedStrings? {
        guard let entry = metadata[key] else { return nil }
        guard case .array(let array) = entry.value, array.elementType == .string else {
            throw wrongValue(entry, key, expected: "an array of strings")
        }
        var cursor = unsafe ByteCursor(UnsafeRawBufferPointer(rebasing: mapping.bytes[array.byteRange]), file: path)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(array.byteRange.count - 8 * array.count)
        var offsets: [UInt32] = [0]
        offsets.reserveCapacity(array.count + 1)
        for _ in 0..<array.count {
            let range = try cursor.skip(cursor.read(UInt64.self, key), key)
            let start = array.byteRange.lowerBound
            unsafe bytes.append(contentsOf: mapping.bytes[start + range.lowerBound..<start + range.upperBound])
            guard let end = UInt32(exactly: bytes.count) else {
                throw .overLimit(
                    file: path, offset: entry.offset, field: "the size of \(key)", actual: UInt64(bytes.count),
                    limit: UInt64(UInt32.max))
            }
            offsets.append(end)
        }
        return PackedStrings(bytes: bytes, offsets: offsets)
    }

    /// The 32-bit integers under `key`, or nil when there are none.
    package func integers(_ key: String) throws(CheckpointError) -> [Int32]? {
        guard let entry = metadata[key] else { return nil }
        guard case .array(let array) = entry.value, array.elementType == .int32 || array.elementType == .uint32 else {
            throw wrongValue(entry, key, expected: "an array of 32-bit integers")
        }
        return try words(array, key).map { Int32(bitPattern: $0) }
    }

    /// The 32-bit floats under `key`, or nil when there are none.
    package func floats(_ key: String) throws(CheckpointError) -> [Float]? {
        guard let entry = metadata[key] else { return nil }
        guard case .array(let array) = entry.value, array.elementType == .float32 else {
            throw wrongValue(entry, key, expected: "an array of 32-bit floats")
        }
        return try words(array, key).map { Float(bitPattern: $0) }
    }

    private func words(_ array: GGUFArray, _ key: String) throws(CheckpointError) -> [UInt32] {
        var cursor = unsafe ByteCursor(UnsafeRawBufferPointer(rebasing: mapping.bytes[array.byteRange]), file: path)
        var words: [UInt32] = []
        words.reserveCapacity(array.count)
        for _ in 0..<array.count { words.append(try cursor.read(UInt32.self, key)) }
        return words
    }

    /// The error for a value of the wrong type or out of range.
    func wrongValue(_ entry: GGUFEntry, _ key: String, expected: String) -> CheckpointError {
        .malformed(file: path, offset: entry.offset, field: key, actual: entry.summary, expected: expected)
    }

    // MARK: Tensors

    /// What the file says about the tensor `name`, or nil when it has none.
    package func tensorInfo(_ name: String) -> GGUFTensorInfo? {
        tensorIndices[name].map { tensors[$0] }
    }
}

extension GGUFFile: TensorSource {
    package var tensorNames: [String] { tensors.map(\.name) }

    package func storedTensor(_ name: String) -> SourceTensor? {
        guard let index = tensorIndices[name] else { return nil }
        let info = tensors[index]
        let mapping = others.last { $0.firstTensor <= index }?.mapping ?? mapping
        let tensor = mapping.tensor(info.name, info.dtype, shape: info.shape, in: info.byteRange)
        return SourceTensor(tensor: tensor, infoOffset: info.infoOffset)
    }

    package func requireUnchanged() throws(CheckpointError) {
        try mapping.requireUnchanged()
        for part in others { try part.mapping.requireUnchanged() }
    }
}

/// Many short strings in one buffer: a vocabulary without an object per token.
package struct PackedStrings: Sendable, Equatable {
    /// The bytes of all strings, one after the other.
    package let bytes: [UInt8]
    /// Where each string starts in `bytes`, and after the last one where it ends. [count + 1]
    package let offsets: [UInt32]

    /// How many strings there are.
    package var count: Int { offsets.count - 1 }

    /// The bytes of string `index`.
    package subscript(index: Int) -> ArraySlice<UInt8> { bytes[Int(offsets[index])..<Int(offsets[index + 1])] }
}
