// A checkpoint that was split: model-00001-of-00003.gguf and the files beside it.
//
// The first part is the one to name. It has the metadata and says how many parts and tensors there are; each part says
// which one it is, so that parts of different models are not mixed.

/// What a file says about the parts it belongs to.
struct GGUFParts {
    /// How many there are; 0 where the file is whole.
    let count: Int
    private let path: String
    private let tensorCount: Int?

    /// More would be refused by any file system's habits.
    private static let maxCount = 4096

    /// - Parameter first: the file that was named.
    init(of first: GGUFFile) throws(CheckpointError) {
        count = try first.integer("split.count", in: 0...Self.maxCount) ?? 0
        path = first.path
        tensorCount = try first.integer("split.tensors.count", in: 0...Int(Int32.max))
        guard count > 1 else { return }
        try require(first, is: 0)
        guard path.hasSuffix(Self.suffix(0, of: count)) else {
            throw .malformed(
                file: path, offset: first[key: "split.count"]?.offset ?? 0, field: "the file's name",
                actual: "not that of the first of \(count) parts",
                expected: "a name that ends in \(Self.suffix(0, of: count))")
        }
    }

    /// Where part `index` is: beside the first.
    func path(of index: Int) -> String {
        String(path.dropLast(Self.suffix(0, of: count).count)) + Self.suffix(index, of: count)
    }

    /// Throws unless `file` says that it is part `index` of as many parts.
    func require(_ file: GGUFFile, is index: Int) throws(CheckpointError) {
        for (key, expected) in [("split.no", index), ("split.count", count)] {
            guard let actual = try file.integer(key, in: 0...Self.maxCount) else {
                throw .missingMetadata(file: file.path, key: key)
            }
            guard actual == expected else {
                throw .malformed(
                    file: file.path, offset: file[key: key]?.offset ?? 0, field: key, actual: "\(actual)",
                    expected: "\(expected)"
                        + (key == "split.no" && index == 0 ? ", the first part, which is the one to name" : ""))
            }
        }
    }

    /// Throws unless the parts have as many tensors together as the first one says.
    func require(tensorCount actual: Int) throws(CheckpointError) {
        guard count > 1, let tensorCount, tensorCount != actual else { return }
        throw .malformed(
            file: path, offset: 0, field: "split.tensors.count", actual: "\(tensorCount)",
            expected: "\(actual), which is how many tensors the parts have")
    }

    private static func suffix(_ index: Int, of count: Int) -> String {
        "-\(fiveDigits(index + 1))-of-\(fiveDigits(count)).gguf"
    }

    private static func fiveDigits(_ number: Int) -> String {
        String(repeating: "0", count: max(0, 5 - String(number).count)) + String(number)
    }
}
