// A mixture of experts: a router chooses for each token the few networks it goes through. arXiv 2401.04088.
//
// Of a model in parts, each rank has a part of every expert, and all choose alike.

import Checkpoints
import Tensors

/// normed → router → the experts it chooses, weighted → added to the output.
struct ExpertMLP: FeedForward {
    /// [experts, hidden]
    private let router: PreparedWeight
    private let routerBias: Tensor?
    private let experts: ExpertWeights
    private let routing: ExpertRouting
    private let activation: GateActivation

    var weightBytes: Int { router.byteCount + experts.byteCount }

    /// Biases are read where there are any.
    init(_ config: ModelConfig, _ shape: ExpertConfig, _ weights: WeightReader, backend: any Backend) throws {
        try backend.require(.experts)
        let (count, ffn, hidden) = (shape.count, shape.ffnSize, config.hiddenSize)
        router = try backend.prepare([weights.tensor("ffn_gate_inp.weight", shape: [count, hidden])])
        routerBias = try weights.optionalVector("ffn_gate_inp.bias", count: count).map {
            try backend.vector($0, purpose: "biases")
        }
        let gates = try weights.experts("ffn_gate", count: count, shape: [ffn, hidden])
        let ups = try weights.experts("ffn_up", count: count, shape: [ffn, hidden])
        let downs = try weights.experts("ffn_down", count: count, shape: [hidden, ffn])
        experts = ExpertWeights(
            gateUp: try zip(gates, ups).map { try backend.prepareExpert([$0, $1]) },
            down: try downs.map { try backend.prepareExpert([$0]) },
            gateUpBias: try Self.gateUpBias(weights, count: count, ffn: ffn, backend),
            downBias: try Self.downBias(weights, [count, hidden], backend))
        routing = shape.routing
        activation = config.activation
    }

    private static func bias(_ weights: WeightReader, _ name: String, _ shape: [Int]) throws -> [Float]? {
        try weights.optionalTensor(name, shape: shape)?.dequantized()
    }

    /// Of what the ranks add up, the first adds the biases.
    private static func downBias(_ weights: WeightReader, _ shape: [Int], _ backend: any Backend) throws -> Tensor? {
        let values = try bias(weights, "ffn_down_exps.bias", shape)
        guard backend.collectives?.shard.rank ?? 0 == 0 else { return nil }
        return try values.map { try backend.vector($0, purpose: "biases") }
    }

    /// Each expert's gates and then its others.
    private static func gateUpBias(
        _ weights: WeightReader, count: Int, ffn: Int, _ backend: any Backend
    ) throws -> Tensor? {
        guard let gates = try bias(weights, "ffn_gate_exps.bias", [count, ffn]),
            let ups = try bias(weights, "ffn_up_exps.bias", [count, ffn])
        else { return nil }
        var both: [Float] = []
        for expert in 0..<count {
            let range = expert * ffn..<(expert + 1) * ffn
            both += gates[range]
            both += ups[range]
        }
        return try backend.vector(both, purpose: "biases")
    }

    /// Reads `scratch.normed`.
    func callAsFunction(_ scratch: Activations, into output: Tensor, mode: LinearMode, backend: any Backend) {
        precondition(mode == .accumulate, "experts are added to what is there")
        let ranks = backend.collectives
        // What is there already is in every rank, and counts once.
        if let ranks, ranks.shard.rank > 0 { backend.apply(.multiply(0), to: output) }
        backend.linear(scratch.normed, router, into: scratch.routerLogits, mode: .overwrite)
        if let routerBias { backend.addBias(routerBias, to: scratch.routerLogits) }
        backend.mixExperts(
            scratch.normed, logits: scratch.routerLogits, experts, routing: routing, activation: activation,
            into: output)
        ranks?.sum(output)
    }
}

extension WeightReader {
    /// A matrix of each expert: stacked in one tensor, or one by one as older files have them.
    fileprivate func experts(_ name: String, count: Int, shape: [Int]) throws(CheckpointError) -> [StoredTensor] {
        if contains("\(name).0.weight") {
            var matrices: [StoredTensor] = []
            for index in 0..<count { matrices.append(try tensor("\(name).\(index).weight", shape: shape)) }
            return matrices
        }
        let stack = try tensor("\(name)_exps.weight", shape: [count] + shape)
        return (0..<count).map { stack.slice($0) }
    }
}
