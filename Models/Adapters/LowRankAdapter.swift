// A LoRA adapter in the host's memory, in the order and form in which a model's matrices take it. arXiv 2106.09685.

import Checkpoints
import Tensors

/// An adapter that fits a model. Made off the engine thread, which then only copies it.
package struct LowRankAdapter: Sendable {
    /// What it changes of one matrix, or of a rank's part of it.
    struct Change: Sendable {
        let rank: Int
        /// [rank, inputs]
        let down: [Float]
        /// [rank, outputs], times the adapter's scale.
        let up: [Float]

        var isFinite: Bool { down.allSatisfy(\.isFinite) && up.allSatisfy(\.isFinite) }
    }

    /// [ranks][targets of the layout] nil where it leaves a matrix alone.
    let changes: [[Change?]]

    /// Reads a PEFT folder: of each matrix what the layout's ranks have of it, where it has several.
    /// - Throws: `CheckpointError` for a folder that is not a plain LoRA adapter of this model.
    package init(path: String, layout: AdapterLayout) throws(CheckpointError) {
        let checkpoint = try AdapterCheckpoint(path: path, maxRank: layout.limits.maxRank)
        guard !layout.plans.isEmpty else {
            changes = [try Self.changes(layout.targets, checkpoint, checkpoint.weights)]
            return
        }
        var parts: [[Change?]] = []
        for plan in layout.plans {
            parts.append(try Self.changes(layout.targets, checkpoint, checkpoint.weights.sharded(plan)))
        }
        changes = parts
    }

    private static func changes(
        _ targets: [AdapterTarget], _ checkpoint: AdapterCheckpoint, _ weights: WeightReader
    ) throws(CheckpointError) -> [Change?] {
        var changes: [Change?] = []
        for target in targets {
            let scope = "\(AdapterCheckpoint.scope).layers.\(target.layer).\(target.module)"
            let change = try change(target, checkpoint.config, weights.scoped(scope))
            // One number that is none would spoil every row of the adapter, and only while it is served.
            guard change?.isFinite != false else {
                throw .malformed(
                    file: checkpoint.path, offset: 8, field: "tensor \(scope)", actual: "not finite everywhere",
                    expected: "numbers of 32 bits")
            }
            changes.append(change)
        }
        try weights.requireAllRead()
        guard changes.contains(where: { $0 != nil }) else {
            throw .missingTensor(
                file: checkpoint.path, name: "of a matrix that adapters may change", similar: [])
        }
        return changes
    }

    private static func change(
        _ target: AdapterTarget, _ config: AdapterConfig, _ weights: WeightReader
    ) throws(CheckpointError) -> Change? {
        guard weights.contains("lora_A.weight") || weights.contains("lora_B.weight") else { return nil }
        let down = try weights.tensor("lora_A.weight", shape: [config.rank, target.columnCount]).dequantized()
        let stored = try weights.tensor("lora_B.weight", shape: [target.rowCount, config.rank]).dequantized()
        var up = [Float](repeating: 0, count: stored.count)
        for row in 0..<target.rowCount {
            let place = target.place(ofRow: row)
            for index in 0..<config.rank {
                up[index * target.rowCount + place] = Float(
                    Double(stored[row * config.rank + index]) * config.scale)
            }
        }
        return Change(rank: config.rank, down: down, up: up)
    }
}
