// Random weights in the shape of a known model: they load as a checkpoint's do, and compute.

import CPUBackend
import Checkpoints
import Execution
import Models
import Tensors
import TestSupport
import Testing

@Test(arguments: [("llama-3.1-8b", 8_030_261_248), ("llama-3.2-1b", 1_235_814_400), ("smollm2-135m", 134_515_008)])
func `a known shape has as many parameters as its model`(name: String, count: Int) throws {
    #expect(try #require(ModelShape.named(name)).parameterCount == count)
}

@Test(arguments: [DType.bf16, .q8_0, .q4_0, .q4_1, .f16, .f32])
func `random weights are centred and spread like a trained model's, whatever their type`(dtype: DType) {
    let matrix = RandomWeights(dtype, elementCount: 64 * 1024).matrix("m", rows: 64, columns: 1024)
    let values = matrix.dequantized().map(Double.init)
    let mean = values.reduce(0, +) / Double(values.count)
    let deviation = (values.reduce(0) { $0 + $1 * $1 } / Double(values.count)).squareRoot()
    // Four bits reach from −8 to 7, so their mean is half a step below 0.
    #expect(abs(mean) < 0.003)
    #expect((0.018...0.022).contains(deviation))
    #expect(matrix.dequantizedRow(0) != matrix.dequantizedRow(1))
}

@Test(arguments: [DType.bf16, .q4_0])
func `a synthetic checkpoint loads whole, and its logits are finite and differ`(dtype: DType) throws {
    let shape = try #require(ModelShape.named("smollm2-135m"))
    let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: 2)
    let model = try Registry.load(
        shape.config, weights: WeightReader(SyntheticCheckpoint(shape, dtype: dtype)),
        capacity: StepCapacity(tokens: 16, sampledRows: 16), backend: backend)
    let logprobs = try DirectForward(EngineParts(backend: backend, model: model), capacity: 16)
        .logprobs([1, 40_000, 7, 7, 49_151])
    #expect(logprobs.count == 5)
    for row in logprobs {
        #expect(row.allSatisfy { $0.isFinite })
        #expect(Set(row.prefix(1000)).count > 900)
    }
    #expect(logprobs[0] != logprobs[1])
}
