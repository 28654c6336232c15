// Root-mean-square normalisation with a learned scale. arXiv 1910.07467.

import Checkpoints
import Tensors

/// y = x · weight / √(mean(x²) + epsilon), row by row.
struct RMSNorm {
    /// [hidden] f32
    private let weight: Tensor
    private let epsilon: Float

    init(_ config: ModelConfig, _ weight: [Float], _ backend: any Backend) throws(BackendError) {
        self.weight = try backend.allocate([weight.count], .f32, purpose: "norm weights")
        backend.upload(weight, to: self.weight)
        epsilon = config.rmsEpsilon
    }

    /// x, output: [rows, hidden]
    func callAsFunction(_ x: Tensor, into output: Tensor, backend: any Backend) {
        backend.rmsNorm(x, weight: weight, epsilon: epsilon, into: output)
    }
}
