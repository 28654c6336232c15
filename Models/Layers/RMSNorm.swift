// Root-mean-square normalisation with a learned scale. arXiv 1910.07467.

import Checkpoints
import Tensors

/// y = x · weight / √(mean(x²) + epsilon), row by row.
struct RMSNorm {
    /// [hidden] f32
    private let weight: Tensor
    private let epsilon: Float

    /// Reads `name`.weight, of the hidden size.
    init(_ config: ModelConfig, _ weights: WeightReader, _ name: String, _ backend: any Backend) throws {
        weight = try backend.normWeight(config, weights, name, count: config.hiddenSize)
        epsilon = config.rmsEpsilon
    }

    /// x, output: [rows, hidden]
    func callAsFunction(
        _ x: Tensor, into output: Tensor, mode: LinearMode = .overwrite, backend: any Backend
    ) {
        backend.rmsNorm(x, weight: weight, epsilon: epsilon, into: output, mode: mode)
    }
}

extension Backend {
    /// The vector `name`.weight of a norm, with the offset that the model's publisher stores it without.
    func normWeight(
        _ config: ModelConfig, _ weights: WeightReader, _ name: String, count: Int
    ) throws -> Tensor {
        try vector(
            weights.vector("\(name).weight", count: count).map { $0 + config.normOffset }, purpose: "norm weights")
    }

    /// A vector on the device.
    func vector(_ values: [Float], purpose: String) throws(BackendError) -> Tensor {
        let tensor = try allocate([values.count], .f32, purpose: purpose)
        upload(values, to: tensor)
        return tensor
    }
}
