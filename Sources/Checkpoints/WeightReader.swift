// How a model takes its weights from a checkpoint: by scoped name and expected shape.
//
// The reader remembers what was taken. A tensor nobody took means the architecture does not match the file, and
// output computed without it would be wrong without a sign of it; so that is an error too.

import Tensors

/// A tensor and where the file describes it.
package struct SourceTensor {
    package let tensor: StoredTensor
    /// Bytes from the start of the file to the tensor's description, for messages.
    package let infoOffset: Int

    package init(tensor: StoredTensor, infoOffset: Int) {
        self.tensor = tensor
        self.infoOffset = infoOffset
    }
}

/// A checkpoint format: named tensors in a file.
package protocol TensorSource {
    /// The path of the checkpoint, for messages.
    var path: String { get }
    /// The names of all tensors, in the order of the file.
    var tensorNames: [String] { get }
    /// The tensor `name`, or nil when there is none.
    func storedTensor(_ name: String) -> SourceTensor?
    /// The part of the tensor `name` that `cut` takes, reading no more than that, or nil when there is none.
    /// - Throws: `CheckpointError` when the tensor is not as long as it should be, or would be cut inside a block.
    func storedTensor(_ name: String, cut: TensorCut) throws(CheckpointError) -> SourceTensor?
    /// What the tensor `name` is, without converting it, or nil when there is none.
    func form(of name: String) -> TensorForm?
    /// Throws when the file was modified since it was opened.
    func requireUnchanged() throws(CheckpointError)
}

extension TensorSource {
    package func form(of name: String) -> TensorForm? {
        storedTensor(name).map { TensorForm(dtype: $0.tensor.dtype, shape: $0.tensor.shape) }
    }
}

/// Type and shape of a stored tensor.
package struct TensorForm: Sendable {
    package let dtype: DType
    package let shape: [Int]

    package init(dtype: DType, shape: [Int]) {
        self.dtype = dtype
        self.shape = shape
    }
}

/// Reads a model's weights from a checkpoint and keeps count of what was read.
package struct WeightReader {
    private let ledger: Ledger
    private let prefix: String
    /// Which part of each tensor is read; nil reads all.
    package let plan: ShardPlan?

    /// Shared by a reader and all readers scoped from it.
    private final class Ledger {
        let source: any TensorSource
        var read: Set<String> = []
        lazy var names = Set(source.tensorNames)

        init(_ source: any TensorSource) { self.source = source }
    }

    /// A reader over all tensors of `source`.
    package init(_ source: any TensorSource) {
        ledger = Ledger(source)
        prefix = ""
        plan = nil
    }

    private init(ledger: Ledger, prefix: String, plan: ShardPlan?) {
        self.ledger = ledger
        self.prefix = prefix
        self.plan = plan
    }

    /// A reader whose names start with `scope` and a dot.
    package func scoped(_ scope: String) -> WeightReader {
        WeightReader(ledger: ledger, prefix: prefix + scope + ".", plan: plan)
    }

    /// A reader of one rank's part of each tensor, in the shapes that its part of the model has.
    package func sharded(_ plan: ShardPlan) -> WeightReader {
        WeightReader(ledger: ledger, prefix: prefix, plan: plan)
    }

    /// The path of the checkpoint, for messages.
    package var path: String { ledger.source.path }

    /// The tensor `name`, which must exist and have `shape`, outermost extent first.
    package func tensor(_ name: String, shape: [Int]) throws(CheckpointError) -> StoredTensor {
        guard let tensor = try optionalTensor(name, shape: shape) else {
            throw .missingTensor(file: ledger.source.path, name: prefix + name, similar: similarNames(prefix + name))
        }
        return tensor
    }

    /// The tensor `name`, or nil when the checkpoint has none; it must have `shape` when it is there.
    package func optionalTensor(_ name: String, shape: [Int]) throws(CheckpointError) -> StoredTensor? {
        let name = prefix + name
        let stored: SourceTensor?
        if let cut = plan?.cut(name, shape: shape) {
            stored = try ledger.source.storedTensor(name, cut: cut)
        } else {
            stored = ledger.source.storedTensor(name)
        }
        guard let found = stored else { return nil }
        guard found.tensor.shape == shape else {
            throw .wrongShape(
                file: ledger.source.path, offset: found.infoOffset, name: name, actual: found.tensor.shape,
                expected: shape)
        }
        ledger.read.insert(name)
        return found.tensor
    }

    /// Whether the checkpoint has the tensor `name`. Does not count as reading it.
    package func contains(_ name: String) -> Bool { ledger.names.contains(prefix + name) }

    /// Ends the loading: throws when a tensor was not read, or when the file changed while it was.
    package func requireAllRead() throws(CheckpointError) {
        let unread = ledger.source.tensorNames.filter { !ledger.read.contains($0) }
        guard unread.isEmpty else {
            throw .unreadTensors(file: ledger.source.path, names: unread.map { printable($0) })
        }
        try ledger.source.requireUnchanged()
    }

    /// The names in the file closest to `name`, at most three. Looks at the first two thousand only.
    private func similarNames(_ name: String) -> [String] {
        let limit = max(2, name.utf8.count / 3)
        return ledger.source.tensorNames.prefix(2_000)
            .map { (name: $0, distance: editDistance(Array(name.utf8), Array($0.utf8.prefix(256)))) }
            .filter { $0.distance <= limit }
            .sorted { ($0.distance, $0.name) < ($1.distance, $1.name) }
            .prefix(3).map { printable($0.name) }
    }
}

/// How many bytes must be inserted, removed or replaced to make `a` into `b`.
private func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var previous = Array(0...b.count)
    for (row, left) in a.enumerated() {
        var current = [row + 1]
        for (column, right) in b.enumerated() {
            let replaced = previous[column] + (left == right ? 0 : 1)
            current.append(min(replaced, previous[column + 1] + 1, current[column] + 1))
        }
        previous = current
    }
    return previous[b.count]
}
