// The limits of a machine, and what of them an operation and a whole step reach.
//
// An operation takes at least as long as its bytes need at the measured bandwidth, and as its products need at the
// measured peak; the longer of the two is its limit (Williams, Waterman & Patterson, "Roofline", 2009).

import CPUBackend
import Checkpoints
import Execution
import Tensors

/// What the machine was measured to do at most.
package struct MachineLimits: Sendable {
    /// Bytes a second read from memory of a size, smallest size first.
    package let bandwidths: [(byteCount: Int, rate: Double)]
    /// Operations a second; absent where the instruction set has no such product.
    package let products: [CPUBackend.Product: Double]

    package init(bandwidths: [(byteCount: Int, rate: Double)], products: [CPUBackend.Product: Double]) {
        self.bandwidths = bandwidths.sorted { $0.byteCount < $1.byteCount }
        self.products = products
    }

    /// Measures `backend`: caches and memory by powers of four, and at the sizes asked for.
    static func measure(
        _ backend: CPUBackend, sizes: [Int], duration: Duration
    ) throws(BackendError) -> MachineLimits {
        let all = Set((0..<6).map { 1 << (18 + 2 * $0) } + sizes).sorted()
        var bandwidths: [(byteCount: Int, rate: Double)] = []
        for size in all {
            bandwidths.append(
                (byteCount: size, rate: try backend.readBandwidth(byteCount: size, duration: duration)))
        }
        var products: [CPUBackend.Product: Double] = [:]
        for product in CPUBackend.Product.allCases {
            products[product] = backend.productRate(product, duration: duration)
        }
        return MachineLimits(bandwidths: bandwidths, products: products)
    }

    /// The bandwidth of the measured size next to `byteCount`, in ratio.
    package func bandwidth(byteCount: Int) -> Double {
        func distance(_ size: Int) -> Double {
            let ratio = Double(size) / Double(max(1, byteCount))
            return max(ratio, 1 / ratio)
        }
        return bandwidths.min { distance($0.byteCount) < distance($1.byteCount) }?.rate ?? 0
    }

    /// Operations a second of `product`, or of the wider ones that do its work.
    package func rate(_ product: CPUBackend.Product) -> Double {
        products[product] ?? products[.f32] ?? 0
    }
}

/// An operation of a step, and how often the step does it.
struct StepOperation {
    let operation: KernelCase
    let count: Int
    /// What it multiplies with; nil where reading is all its work.
    let product: CPUBackend.Product?
    /// Whether it reads what a step reads once (weights, keys and values), and not what was written just before.
    let isStreamed: Bool
}

/// One step of a model.
struct ModelStep {
    let name: String
    let sequences: Int
    /// New tokens of each sequence, and all its tokens.
    let query: Int
    let context: Int

    /// What the step consists of.
    /// - Parameter dtype: the type of a matrix, by its name.
    func operations(
        _ config: ModelConfig, dtype: (String) -> DType, keysAreBF16: Bool
    ) -> [StepOperation] {
        let layers = config.layerCount
        let tokens = sequences * query
        let shape = ContextShape(config, sequences: sequences, query: query, context: context)
        var operations = KernelMatrix.all(config).map { matrix in
            let isHead = matrix.name == "head"
            let type = dtype(matrix.name)
            return StepOperation(
                operation: .linear(matrix, type, tokens: isHead ? sequences : tokens), count: isHead ? 1 : layers,
                product: type.isQuantized ? .int8 : type == .bf16 ? .bf16 : .f32, isStreamed: true)
        }
        operations.append(
            StepOperation(
                operation: .attend(shape), count: layers, product: keysAreBF16 ? .bf16 : .f32, isStreamed: true))
        for (operation, count) in [
            (KernelCase.storeKV(shape), layers), (.rotate(shape), layers),
            (.rmsNorm(config, tokens: tokens), 2 * layers + 1),
            (.gate(config, tokens: tokens), layers), (.embed(config, dtype("head"), tokens: tokens), 1),
            (.sample("greedy", SamplingRow(), rows: sequences, vocabulary: config.vocabSize), 1),
        ] {
            operations.append(StepOperation(operation: operation, count: count, product: nil, isStreamed: false))
        }
        return operations
    }

    /// Bytes that the step reads once: all weights, and the keys and values of its sequences.
    func workingSet(_ config: ModelConfig, dtype: (String) -> DType, kvBytesPerToken: Int) -> Int {
        let weights = KernelMatrix.all(config).reduce(0) { sum, matrix in
            let bytes = matrix.rows * (dtype(matrix.name).rowByteCount(elementCount: matrix.columns) ?? 0)
            return sum + bytes * (matrix.name == "head" ? 1 : config.layerCount)
        }
        return weights + sequences * context * kvBytesPerToken * config.layerCount
    }
}

/// What was found of one operation of a step.
package struct OperationShare: Sendable {
    let measurement: KernelMeasurement
    let count: Int
    /// Seconds that all its calls in a step need at least.
    package let limit: Double
    /// Whether reading is what limits it, and not multiplying.
    package let isBoundByReading: Bool

    /// Seconds that they take.
    package var seconds: Double { measurement.microseconds * 1e-6 * Double(count) }

    package init(
        _ measurement: KernelMeasurement, count: Int, product: CPUBackend.Product?, bandwidth: Double,
        limits: MachineLimits
    ) {
        self.measurement = measurement
        self.count = count
        let reading = Double(measurement.bytes) / bandwidth
        let multiplying = product.map { Double(measurement.operations) / limits.rate($0) } ?? 0
        isBoundByReading = reading >= multiplying
        limit = max(reading, multiplying) * Double(count)
    }
}

/// What was found of one step.
package struct StepShare: Sendable {
    let name: String
    let workingSet: Int
    let operations: [OperationShare]
    /// Seconds of a whole step on the engine.
    let seconds: Double

    package init(name: String, workingSet: Int, operations: [OperationShare], seconds: Double) {
        self.name = name
        self.workingSet = workingSet
        self.operations = operations
        self.seconds = seconds
    }

    package var limit: Double { operations.reduce(0) { $0 + $1.limit } }
    package var sum: Double { operations.reduce(0) { $0 + $1.seconds } }
}
