// Decoded rows against the reference implementation, bit for bit.

import Checkpoints
import Tensors
import Testing

@Suite struct DequantizationTests {
    @Test(arguments: DequantizationFixture.all)
    func `blocks decode to the reference's bits`(fixture: DequantizationFixture) {
        let expected = words(fixture.decoded)
        let scratch = Scratch(hexBytes(fixture.stored))
        let tensor = unsafe StoredTensor(
            name: "t", dtype: fixture.dtype, shape: [expected.count], bytes: UnsafeRawBufferPointer(scratch.bytes),
            owner: scratch)
        #expect(tensor.dequantizedRow(0).map(\.bitPattern) == expected)
    }

    @Test func `rows are found by their index`() {
        let fixture = DequantizationFixture.all[0]
        let expected = words(fixture.decoded)
        let scratch = Scratch(hexBytes(fixture.stored))
        let tensor = unsafe StoredTensor(
            name: "t", dtype: fixture.dtype, shape: [2, 1, 32], bytes: UnsafeRawBufferPointer(scratch.bytes),
            owner: scratch)
        #expect(tensor.storedRowCount == 2)
        #expect(tensor.dequantizedRow(1).map(\.bitPattern) == Array(expected[32...]))
        #expect(tensor.dequantized().map(\.bitPattern) == expected)
    }

    @Test func `rows of the real model decode to the reference's bits`() throws {
        let file = try GGUFFile(path: realModelPath())
        for (name, row, fold) in DequantizationFixture.realRows {
            let tensor = try #require(file.storedTensor(name)).tensor
            let actual = tensor.dequantizedRow(row).reduce(0xcbf2_9ce4_8422_2325 as UInt64) {
                ($0 ^ UInt64($1.bitPattern)) &* 0x100_0000_01b3
            }
            #expect(actual == fold, "row \(row) of \(name)")
        }
    }

    private func hexBytes(_ text: String) -> [UInt8] {
        let digits = text.utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
        return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
    }

    /// Eight hexadecimal digits each.
    private func words(_ text: String) -> [UInt32] {
        let bytes = hexBytes(text)
        return stride(from: 0, to: bytes.count, by: 4).map { start in
            bytes[start..<start + 4].reduce(0) { $0 << 8 | UInt32($1) }
        }
    }
}
