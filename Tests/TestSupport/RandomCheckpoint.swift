// Random weights for a configuration of any size, each element a number of its own: a slice that is taken from the wrong
// place is wrong.

import Checkpoints
import Tensors

/// A checkpoint in memory, under the names that models ask for.
package final class RandomCheckpoint: TensorSource, Sendable {
    package let path = "random weights"
    package let tensorNames: [String]
    private let tensors: [String: (dtype: DType, shape: [Int], memory: MappedFile)]

    /// - Parameters:
    ///   - names: of the tensors of a smaller checkpoint of the same architecture.
    ///   - isQuantized: whether matrices are Q8_0.
    package init(_ config: ModelConfig, names: [String], isQuantized: Bool = false) {
        tensorNames = names
        var tensors: [String: (DType, [Int], MappedFile)] = [:]
        for (index, name) in names.enumerated() {
            let shape = Self.shape(of: name, config)
            let dtype: DType = isQuantized && shape.count == 2 ? .q8_0 : .f32
            var numbers = SplitMix64(state: UInt64(index + 1))
            let isNorm = name.hasSuffix("norm.weight")
            var bytes: [UInt8] = []
            for _ in 0..<shape.reduce(1, *) / dtype.blockElementCount {
                if dtype == .q8_0 {
                    Self.append(Float16(0.002).bitPattern, to: &bytes)
                    for _ in 0..<32 { bytes.append(UInt8(truncatingIfNeeded: numbers.next())) }
                } else {
                    let value = Float(Int64(truncatingIfNeeded: numbers.next() >> 40) - (1 << 23)) * 0x1p-25
                    Self.append((isNorm ? 1 + value : value).bitPattern, to: &bytes)
                }
            }
            tensors[name] = (dtype, shape, MappedFile(copying: bytes, path: name))
        }
        self.tensors = tensors
    }

    package func storedTensor(_ name: String) -> SourceTensor? {
        guard let (dtype, shape, memory) = tensors[name] else { return nil }
        let tensor = unsafe StoredTensor(name: name, dtype: dtype, shape: shape, bytes: memory.bytes, owner: memory)
        return SourceTensor(tensor: tensor, infoOffset: 0)
    }

    package func requireUnchanged() {}

    private static func shape(of name: String, _ config: ModelConfig) -> [Int] {
        let (hidden, ffn) = (config.hiddenSize, config.ffnSize)
        let (queries, keys) = (config.headCount * config.headDim, config.kvHeadCount * config.headDim)
        let pieces = name.split(separator: ".")
        let own = pieces.first == "blk" ? pieces.dropFirst(2) : pieces[...]
        switch (own.first, own.last) {
        case ("token_embd", _), ("output", _): return [config.vocabSize, hidden]
        case ("attn_q", "bias"): return [queries]
        case ("attn_k", "bias"), ("attn_v", "bias"): return [keys]
        case ("attn_q", _): return [queries, hidden]
        case ("attn_k", _), ("attn_v", _): return [keys, hidden]
        case ("attn_output", "weight"): return [hidden, queries]
        case ("attn_q_norm", _), ("attn_k_norm", _): return [config.headDim]
        case ("ffn_gate", _), ("ffn_up", _): return [ffn, hidden]
        case ("ffn_down", _): return [hidden, ffn]
        default: return [hidden]
        }
    }

    private static func append<Number: FixedWidthInteger>(_ number: Number, to bytes: inout [UInt8]) {
        for shift in stride(from: 0, to: Number.bitWidth, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: number >> Number(shift)))
        }
    }
}
