// Vectors of a checkpoint (norm weights, biases, factors), as 32-bit floats whatever they are stored as.

import Checkpoints
import Tensors

extension WeightReader {
    /// The vector `name` of `count` elements.
    func vector(_ name: String, count: Int) throws(CheckpointError) -> [Float] {
        try tensor(name, shape: [count]).dequantized()
    }

    /// The vector `name` of `count` elements, or nil when the checkpoint has none.
    func optionalVector(_ name: String, count: Int) throws(CheckpointError) -> [Float]? {
        try optionalTensor(name, shape: [count])?.dequantized()
    }
}
