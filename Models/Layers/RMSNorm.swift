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

/// The same norm on the host, for the few rows whose states leave the device; a row's result depends on nothing else.
package struct OutputNorm: Sendable {
    /// [hidden]
    private let weight: [Float]
    private let epsilon: Double

    /// Reads `name`.weight, of the hidden size.
    init(_ config: ModelConfig, _ weights: WeightReader, _ name: String) throws {
        weight = try weights.normVector(config, name, count: config.hiddenSize)
        epsilon = Double(config.rmsEpsilon)
    }

    /// Features of a row.
    package var width: Int { weight.count }

    /// Adds the normalized row `row` of `rows` [rows, hidden] to `sum` [hidden].
    package func add(row: Int, of rows: [Float], to sum: inout [Double]) {
        let first = row * weight.count
        var squares = 0.0
        for index in first..<first + weight.count { squares += Double(rows[index]) * Double(rows[index]) }
        let scale = 1 / (squares / Double(weight.count) + epsilon).squareRoot()
        for index in weight.indices { sum[index] += Double(rows[first + index]) * scale * Double(weight[index]) }
    }
}

extension WeightReader {
    /// The vector `name`.weight of a norm, with the offset that the model's publisher stores it without.
    fileprivate func normVector(_ config: ModelConfig, _ name: String, count: Int) throws -> [Float] {
        try vector("\(name).weight", count: count).map { $0 + config.normOffset }
    }
}

extension Backend {
    /// The vector `name`.weight of a norm, with the offset that the model's publisher stores it without.
    func normWeight(
        _ config: ModelConfig, _ weights: WeightReader, _ name: String, count: Int
    ) throws -> Tensor {
        try vector(weights.normVector(config, name, count: count), purpose: "norm weights")
    }

    /// A vector on the device.
    func vector(_ values: [Float], purpose: String) throws(BackendError) -> Tensor {
        let tensor = try allocate([values.count], .f32, purpose: purpose)
        upload(values, to: tensor)
        return tensor
    }
}
