// What every backend must do right, checked against 64-bit floats through the `Backend` protocol alone: the same cases
// run in the tests, on an emulated GPU, and on a real one (`apus verify`).

import Tensors

/// One property of one operation.
package struct ConformanceCase: Sendable {
    /// Operation and property, as a sentence.
    package let name: String
    /// Whether it is quick enough to run under a memory checker.
    package let isSmall: Bool
    /// The largest error found, as a fraction of what is allowed: at most 1 passes. What must agree bit for bit gives
    /// infinity when it does not.
    package let worstError: @Sendable (any Backend) throws -> Double

    init(_ name: String, isSmall: Bool = false, _ worstError: @escaping @Sendable (any Backend) throws -> Double) {
        self.name = name
        self.isSmall = isSmall
        self.worstError = worstError
    }

    /// All cases, in the order of the protocol's operations.
    package static let all =
        rowCases + elementCases + linearCases + furtherTypes + endingCases + lowRankCases + expertCases + attentionCases
        + attentionByteCases + attentionOptionCases + samplingCases
}

/// The largest of errors relative to what is allowed; NaN is as bad as it gets.
struct WorstError {
    private(set) var value = 0.0

    mutating func note(_ error: Double, allowed: Double) {
        let ratio = abs(error) / allowed
        value = ratio.isNaN ? .infinity : max(value, ratio)
    }

    mutating func note(_ isRight: Bool) {
        if !isRight { value = .infinity }
    }
}

/// Pseudo-random numbers that depend on the seed only.
package struct SeededNumbers: RandomNumberGenerator {
    private var source: SplitMix64

    package init(_ seed: UInt64) { source = SplitMix64(state: seed &* 0x9E37_79B9_7F4A_7C15) }

    package mutating func next() -> UInt64 { source.next() }

    /// Roughly normal: the sum of four uniform numbers.
    package mutating func normal() -> Float {
        var sum: Float = 0
        for _ in 0..<4 { sum += Float.random(in: -1...1, using: &self) }
        return sum * 0.866
    }

    package mutating func normals(_ count: Int) -> [Float] { (0..<count).map { _ in normal() } }
}

extension Float {
    /// The nearest bf16, ties to even.
    var roundedToBF16: Float {
        Float(bitPattern: (bitPattern + 0x7FFF + (bitPattern >> 16 & 1)) & 0xFFFF_0000)
    }

    /// As a tensor of `dtype` would hold it.
    func rounded(to dtype: DType) -> Float { dtype == .bf16 ? roundedToBF16 : self }
}

extension Backend {
    func tensor(_ values: [Float], _ shape: Shape, _ dtype: DType = .f32) throws(BackendError) -> Tensor {
        let tensor = try allocate(shape, dtype, purpose: "a check")
        upload(values, to: tensor)
        return tensor
    }

    func tensor(_ values: [Int32], _ shape: Shape? = nil) throws(BackendError) -> Tensor {
        let tensor = try allocate(shape ?? [values.count], .i32, purpose: "a check")
        upload(values, count: values.count, to: tensor)
        return tensor
    }

    /// Largest relative error of rounding to the type that `rmsNorm`, `gate` and `attend` write; 0 for f32.
    var outputRounding: Double { linearInputType == .bf16 ? 0x1p-8 : 0 }
}

/// Bit patterns, so that NaN equals itself and 0 differs from −0.
func bits(_ values: some Sequence<Float>) -> [UInt32] { values.map(\.bitPattern) }
