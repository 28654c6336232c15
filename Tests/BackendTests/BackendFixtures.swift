// What the backend's tests share: instruction sets to run on, seeded numbers, encoded weights with their f64 values.

import CPUBackend
import Tensors

/// Every instruction set this machine can run, the emulated AVX-512 included.
let instructionSets = CPUInstructionSet.allCases.filter(\.isAvailable)

/// Pseudo-random numbers that depend on the seed only (SplitMix64).
struct SeededNumbers: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// Roughly normal: the sum of four uniform numbers.
    mutating func normal() -> Float {
        var sum: Float = 0
        for _ in 0..<4 { sum += Float.random(in: -1...1, using: &self) }
        return sum * 0.866
    }

    mutating func normals(_ count: Int) -> [Float] {
        var result: [Float] = []
        result.reserveCapacity(count)
        for _ in 0..<count { result.append(normal()) }
        return result
    }
}

/// Bytes that tensors of a test point into. Safe to hold: it owns them.
@safe
final class OwnedBytes {
    let bytes: UnsafeRawBufferPointer

    init(_ source: [UInt8]) {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: source.count, alignment: 1)
        unsafe copy.copyBytes(from: source)
        unsafe bytes = UnsafeRawBufferPointer(copy)
    }

    deinit { unsafe bytes.deallocate() }
}

/// A matrix as a checkpoint would store it, and what its elements are exactly.
struct EncodedMatrix {
    let tensor: StoredTensor
    let rows: Int
    let columns: Int
    /// [rows × columns]
    let values: [Double]

    init(_ dtype: DType, rows: Int, columns: Int, seed: UInt64) {
        var numbers = SeededNumbers(seed)
        var bytes: [UInt8] = []
        var values: [Double] = []
        values.reserveCapacity(rows * columns)
        for _ in 0..<(rows * columns / dtype.blockElementCount) {
            switch dtype {
            case .f32:
                let value = numbers.normal()
                append(value.bitPattern, to: &bytes)
                values.append(Double(value))
            case .f16:
                let value = Float16(numbers.normal())
                append(value.bitPattern, to: &bytes)
                values.append(Double(value))
            case .bf16:
                let bits = UInt16(numbers.normal().bitPattern >> 16)
                append(bits, to: &bytes)
                values.append(Double(Float(bitPattern: UInt32(bits) << 16)))
            case .q8_0:
                let scale = Float16(numbers.normal() / 64)
                append(scale.bitPattern, to: &bytes)
                for _ in 0..<32 {
                    let q = Int8.random(in: -128...127, using: &numbers)
                    bytes.append(UInt8(bitPattern: q))
                    values.append(Double(scale) * Double(q))
                }
            case .q4_0, .q4_1:
                let scale = Float16(numbers.normal() / 8)
                let minimum = dtype == .q4_1 ? Float16(numbers.normal()) : 0
                append(scale.bitPattern, to: &bytes)
                if dtype == .q4_1 { append(minimum.bitPattern, to: &bytes) }
                let q = (0..<32).map { _ in UInt8.random(in: 0...15, using: &numbers) }
                for i in 0..<16 { bytes.append(q[i] | q[i + 16] << 4) }
                for x in q {
                    values.append(
                        dtype == .q4_1
                            ? Double(scale) * Double(x) + Double(minimum) : Double(scale) * (Double(x) - 8))
                }
            case .i32: break
            }
        }
        let owner = OwnedBytes(bytes)
        tensor = unsafe StoredTensor(
            name: "test.\(dtype.rawValue)", dtype: dtype, shape: [rows, columns], bytes: owner.bytes, owner: owner)
        self.rows = rows
        self.columns = columns
        self.values = values
    }
}

private func append<T: FixedWidthInteger>(_ value: T, to bytes: inout [UInt8]) {
    for shift in stride(from: 0, to: T.bitWidth, by: 8) { bytes.append(UInt8(truncatingIfNeeded: value >> T(shift))) }
}

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
