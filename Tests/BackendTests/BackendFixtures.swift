// What the backend's tests share: instruction sets to run on, and short ways to make tensors.

import CPUBackend
import Conformance
import Tensors

/// Every instruction set this machine can run, the emulated AVX-512 included.
let instructionSets = CPUInstructionSet.allCases.filter(\.isAvailable)

extension CPUBackend {
    func tensor(_ values: [Float], _ shape: Shape) throws -> Tensor {
        let tensor = try allocate(shape, .f32, purpose: "a test")
        upload(values, to: tensor)
        return tensor
    }

    func tensor(_ values: [Int32]) throws -> Tensor {
        let tensor = try allocate([values.count], .i32, purpose: "a test")
        upload(values, count: values.count, to: tensor)
        return tensor
    }

    /// output = weight · x, for `x` of [tokens, columns].
    func multiply(_ weight: PreparedWeight, _ x: [Float]) throws -> [Float] {
        let tokens = x.count / weight.columnCount
        let output = try tensor(
            [Float](repeating: .nan, count: tokens * weight.rowCount), [tokens, weight.rowCount])
        linear(try tensor(x, [tokens, weight.columnCount]), weight, into: output, mode: .overwrite)
        try synchronize()
        return download(output)
    }
}

/// Bit patterns, so that NaN equals itself and 0 differs from −0.
func bits(_ values: [Float]) -> [UInt32] { values.map(\.bitPattern) }
