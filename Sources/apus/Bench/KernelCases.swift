// Which operations `apus bench kernels` measures, in which shapes, and what each has to read, write and multiply.
//
// Through the `Backend` protocol alone. What is most worth knowing comes first, so that a run that is stopped has it.

import Checkpoints
import Tensors

/// An operation in a shape.
package struct KernelCase {
    /// The operation and what it works on: "linear q4_0 down".
    package let name: String
    /// Words with numbers: "tokens=16 rows=4096 columns=14336".
    package let shape: String
    let prepare: (KernelOperands) throws -> PreparedKernel
}

/// A case that is ready to be timed.
struct PreparedKernel {
    /// The same operation on different copies of what it streams.
    let calls: [() -> Void]
    /// Read and written by one call, each byte once.
    let bytes: Int
    /// Multiplications and additions of one call; 0 where they are beside the point.
    var operations = 0
    var canBeCaptured = true
    /// Ends what the calls have begun.
    var finish: () throws -> Void = {}
}

/// The shapes to measure in.
package enum KernelShapes: String, CaseIterable, Sendable {
    /// SmolLM2-135M: seconds on a CPU.
    case small
    /// Llama-3.1-8B and Llama-3.2-1B.
    case llama

    /// Bytes of all copies of a streamed operand: several times the last-level cache, where that is a GPU's.
    package var coldBytes: Int { self == .small ? 32 << 20 : 256 << 20 }

    private var models: [ModelShape] {
        ModelShape.all.filter { (self == .small) == ($0.name == "smollm2-135m") }
    }

    private var tokenCounts: [Int] { self == .small ? [1, 16] : [1, 16, 64, 256, 2048] }

    /// (sequences, query, context) of attention.
    private var contexts: [(Int, Int, Int)] {
        self == .small
            ? [(1, 1, 256), (4, 1, 256), (1, 128, 128)]
            : [(1, 1, 1024), (16, 1, 1024), (64, 1, 1024), (64, 1, 4096), (1, 2048, 2048), (1, 8192, 8192)]
    }

    /// Keys and values in 8 bits: what every device has, and the contexts that are long enough to read much.
    private var byteTypes: [KVCacheType] { self == .small ? [.int8PerTokenHead] : [.int8PerTokenHead, .fp8] }
    private var byteContexts: [(Int, Int, Int)] {
        self == .small ? [(4, 1, 256)] : [(64, 1, 1024), (64, 1, 4096), (1, 2048, 2048)]
    }

    private var rowCounts: [Int] { self == .small ? [1, 16] : [1, 64, 2048] }
    private var sampledRowCounts: [Int] { self == .small ? [1, 4] : [1, 64] }

    /// All cases.
    package var cases: [KernelCase] {
        let configs = models.map(\.config)
        var cases: [KernelCase] = []
        // The tables of the last matrix, the head, are also what `embed` reads.
        for config in configs { cases += linearCases(config, .bf16) + embedCases(config) }
        for config in configs { cases += attentionCases(config) + rowCases(config) }
        for vocabulary in Set(configs.map(\.vocabSize)).sorted() { cases += sampleCases(vocabulary) }
        for config in configs {
            for dtype in [DType.q4_0, .q4_1, .q8_0] { cases += linearCases(config, dtype) }
        }
        return cases
    }

    // MARK: Lists

    private func linearCases(_ config: ModelConfig, _ dtype: DType) -> [KernelCase] {
        KernelMatrix.all(config).flatMap { matrix in
            // The head multiplies sampled rows only.
            tokenCounts.filter { matrix.name != "head" || $0 <= 256 }.map { .linear(matrix, dtype, tokens: $0) }
        }
    }

    private func embedCases(_ config: ModelConfig) -> [KernelCase] {
        rowCounts.map { .embed(config, .bf16, tokens: $0) }
    }

    private func attentionCases(_ config: ModelConfig) -> [KernelCase] {
        var tokenCounts: Set<Int> = []
        return contexts.flatMap { sequences, query, context in
            let shape = ContextShape(config, sequences: sequences, query: query, context: context)
            // How long the context is concerns attention only.
            let isNew = tokenCounts.insert(sequences * query).inserted
            let cases: [KernelCase] = [.attend(shape)]
            return isNew ? cases + [.rotate(shape), .storeKV(shape)] : cases
        }
            + byteTypes.flatMap { type in
                byteContexts.map { sequences, query, context in
                    .attend(ContextShape(config, sequences: sequences, query: query, context: context, type: type))
                }
            }
    }

    /// What these read was written by the operation before, so it is in the cache in a model too.
    private func rowCases(_ config: ModelConfig) -> [KernelCase] {
        rowCounts.flatMap { [.rmsNorm(config, tokens: $0), .gate(config, tokens: $0)] }
    }

    private func sampleCases(_ vocabulary: Int) -> [KernelCase] {
        let ways = [("greedy", SamplingRow()), ("top-p", SamplingRow(temperature: 0.8, topP: 0.95, seed: 1))]
        return sampledRowCounts.flatMap { rows in
            ways.map { name, row in .sample(name, row, rows: rows, vocabulary: vocabulary) }
        }
    }
}
