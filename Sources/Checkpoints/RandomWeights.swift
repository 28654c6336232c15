// Weights that mean nothing, for measuring: a small random pattern repeated to any size, so that making gigabytes of
// them takes no longer than writing them.

import Tensors

/// Random weights of one type. Matrices read from it share its memory.
package final class RandomWeights: Sendable {
    package let dtype: DType
    /// Of the largest matrix.
    package let elementCount: Int
    private let memory: MappedFile

    /// Blocks before the pattern repeats: a prime, so that rows of a matrix differ.
    private static let patternBlockCount = 65_521
    /// Spread of the weights, as trained models have it: sums over thousands of products stay near 1.
    private static let deviation: Float = 0.02

    /// - Parameters:
    ///   - dtype: any type of weights.
    ///   - elementCount: of the largest matrix; a whole number of blocks.
    package init(_ dtype: DType, elementCount: Int, seed: UInt64 = 1) {
        self.dtype = dtype
        self.elementCount = elementCount
        var numbers = SplitMix64(state: seed)
        var pattern: [UInt8] = []
        pattern.reserveCapacity(Self.patternBlockCount * dtype.blockByteCount)
        for _ in 0..<Self.patternBlockCount { Self.appendBlock(dtype, &numbers, to: &pattern) }
        let byteCount = elementCount / dtype.blockElementCount * dtype.blockByteCount
        memory = MappedFile(repeating: pattern, byteCount: byteCount, path: "random weights")
    }

    /// As many ones in f32, for vectors that only scale.
    init(onesOf elementCount: Int) {
        dtype = .f32
        self.elementCount = elementCount
        var one: [UInt8] = []
        Self.append(Float(1).bitPattern, to: &one)
        memory = MappedFile(repeating: one, byteCount: 4 * elementCount, path: "ones")
    }

    /// A matrix of the first `rows` × `columns` weights.
    package func matrix(_ name: String, rows: Int, columns: Int) -> StoredTensor {
        tensor(name, shape: [rows, columns])
    }

    /// A tensor of the first weights, as many as `shape` has elements.
    func tensor(_ name: String, shape: [Int]) -> StoredTensor {
        let byteCount = dtype.rowByteCount(elementCount: shape.reduce(1, *)) ?? .max
        precondition(byteCount <= memory.byteCount, "a tensor of \(shape) is larger than the weights made for it")
        return memory.tensor(name, dtype, shape: shape, in: 0..<byteCount)
    }

    private static func appendBlock(_ dtype: DType, _ numbers: inout SplitMix64, to bytes: inout [UInt8]) {
        // Evenly spread weights reach √3 deviations.
        func weight() -> Float { Float.random(in: -1...1, using: &numbers) * 1.732 * deviation }
        switch dtype {
        case .f32: append(weight().bitPattern, to: &bytes)
        case .f16: append(Float16(weight()).bitPattern, to: &bytes)
        case .bf16: append(UInt16(truncatingIfNeeded: weight().bitPattern >> 16), to: &bytes)
        case .q8_0:
            append(Float16(deviation / 74).bitPattern, to: &bytes)
            for _ in 0..<4 { append(numbers.next(), to: &bytes) }
        case .q4_0, .q4_1:
            let scale = deviation / 4.6
            append(Float16(scale).bitPattern, to: &bytes)
            if dtype == .q4_1 { append(Float16(-7.5 * scale).bitPattern, to: &bytes) }
            for _ in 0..<2 { append(numbers.next(), to: &bytes) }
        case .i32: append(Int32(0), to: &bytes)
        default:
            // Codes and 8-bit scales as they come; the f16 scales, wherever they are, keep products near 1.
            let start = bytes.count
            for _ in 0...dtype.blockByteCount / 8 { append(numbers.next(), to: &bytes) }
            bytes.removeLast(bytes.count - start - dtype.blockByteCount)
            for (place, scale) in Self.scales(of: dtype) {
                let bits = scale.bitPattern
                bytes[start + place] = UInt8(truncatingIfNeeded: bits)
                bytes[start + place + 1] = UInt8(bits >> 8)
            }
            if dtype == .mxfp4 { bytes[start] = 120 }
            if dtype == .e4m3 { for place in 0..<32 { bytes[start + 4 + place] &= 0xBF } }
            if dtype == .int4 || dtype == .int8 || dtype == .e4m3 {
                if dtype != .e4m3 { bytes[start + 4] = dtype == .int4 ? 8 : 128 }
                let bits = (deviation / (dtype == .int4 ? 4.6 : dtype == .e4m3 ? 0.5 : 74)).bitPattern
                for place in 0..<4 { bytes[start + place] = UInt8(truncatingIfNeeded: bits >> (8 * UInt32(place))) }
            }
        }
    }

    /// Where a block has f16 scales and minima, and what they are here.
    private static func scales(of dtype: DType) -> [(Int, Float16)] {
        switch dtype {
        case .q5_0: [(0, Float16(deviation / 9.2))]
        case .q5_1: [(0, Float16(deviation / 9.2)), (2, Float16(-1.7 * deviation))]
        case .q2_k: [(80, Float16(deviation / 8)), (82, Float16(deviation / 8))]
        case .q3_k: [(108, Float16(deviation / 40))]
        case .q4_k: [(0, Float16(deviation / 145)), (2, Float16(deviation / 20))]
        case .q5_k: [(0, Float16(deviation / 290)), (2, Float16(deviation / 20))]
        case .q6_k: [(208, Float16(deviation / 1300))]
        case .iq4_nl: [(0, Float16(deviation / 70))]
        case .iq4_xs: [(0, Float16(deviation / 1300))]
        default: []
        }
    }

    private static func append<Number: FixedWidthInteger>(_ number: Number, to bytes: inout [UInt8]) {
        for shift in stride(from: 0, to: Number.bitWidth, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: number >> Number(shift)))
        }
    }
}
