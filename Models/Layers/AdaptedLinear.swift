// A matrix, or several that are stacked, whose outputs adapters may change. A step in which no row has an adapter asks
// for nothing but the product; of a model in parts, a matrix cut by its inputs asks for the ranks' sum too, of products
// and of what each rank's part of the adapters adds to its own.

import Tensors

/// One of the matrices that are stacked in a weight.
struct AdaptedPart {
    /// Its name within its layer, as Hugging Face has it.
    let module: String
    let rowCount: Int
    /// Set where the two halves of each head of so many rows are stored interleaved.
    var interleavedHeadDim: Int?
}

/// x ↦ weight · x, and what each row's adapter adds.
struct AdaptedLinear {
    private let weight: PreparedWeight
    /// [parts] Empty where adapters are off.
    private let deltas: [LowRankDeltas]
    /// Set where a rank has the columns for its own features only, and so a part of each output.
    private let isCutByInputs: Bool

    var byteCount: Int { weight.byteCount }

    /// - Parameter parts: the stacked matrices, in order.
    init(
        _ weight: PreparedWeight, _ parts: [AdaptedPart], layer: Int, _ bank: AdapterBank?, isCutByInputs: Bool = false
    ) throws(BackendError) {
        self.weight = weight
        self.isCutByInputs = isCutByInputs
        var deltas: [LowRankDeltas] = []
        var first = 0
        for part in parts {
            guard let bank else { break }
            let target = AdapterTarget(
                layer: layer, module: part.module, columnCount: weight.columnCount, rowCount: part.rowCount,
                interleavedHeadDim: part.interleavedHeadDim)
            deltas.append(try bank.add(target, firstColumn: first))
            first += part.rowCount
        }
        self.deltas = deltas
    }

    /// - Parameter choices: [tokens] i32: the place of each row's adapter, or −1; nil where no row has one.
    func callAsFunction(
        _ x: Tensor, into output: Tensor, mode: LinearMode, choices: Tensor?, backend: any Backend
    ) {
        let ranks = isCutByInputs ? backend.collectives : nil
        // What is there already is in every rank, and counts once.
        let keeps = ranks == nil || ranks?.shard.rank == 0
        backend.linear(x, weight, into: output, mode: keeps ? mode : .overwrite)
        if let choices {
            for part in deltas { backend.addLowRank(x, part, choices: choices, into: output) }
        }
        ranks?.sum(output)
    }

    /// activation(gates, others) of the two matrices that are stacked. scratch: [tokens, 2 × ffn]
    func gate(
        _ x: Tensor, _ activation: GateActivation, scratch: Tensor, into output: Tensor, choices: Tensor?,
        backend: any Backend
    ) {
        guard choices != nil else {
            return backend.linearGated(x, weight, activation, scratch: scratch, into: output)
        }
        self(x, into: scratch, mode: .overwrite, choices: choices, backend: backend)
        backend.gate(scratch, activation, into: output)
    }
}
