// The small values that grammars are made of.

import Grammars
import Testing

@Suite struct ExpressionTests {
    @Test func `a byte set holds what was inserted and its inverse the rest`() {
        let set = ByteSet([0, 63, 64, 255])
        for byte in UInt8.min...UInt8.max {
            #expect(set.contains(byte) == [0, 63, 64, 255].contains(byte))
            #expect(set.inverted.contains(byte) != set.contains(byte))
        }
        #expect(set.intersection(set.inverted).isEmpty)
        #expect(set.union(set.inverted) == ByteSet(UInt8.min...UInt8.max))
    }
}
