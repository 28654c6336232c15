// A hash table from 64-bit keys to 32-bit values, for keys that the program itself makes. Linear probing; nothing is
// ever removed.

struct IntegerMap: Sendable {
    private(set) var count = 0
    /// Keys plus one; zero is free.
    private var keys = [UInt64](repeating: 0, count: 64)
    private var values = [Int32](repeating: 0, count: 64)

    @inline(__always) private func slot(of key: UInt64) -> Int {
        let mixed = (key ^ key >> 29) &* 0x9E37_79B9_7F4A_7C15
        var slot = Int(truncatingIfNeeded: mixed >> 20) & (keys.count - 1)
        while keys[slot] != 0, keys[slot] != key &+ 1 { slot = (slot + 1) & (keys.count - 1) }
        return slot
    }

    @inline(__always) subscript(key: UInt64) -> Int32? {
        let slot = slot(of: key)
        return keys[slot] == 0 ? nil : values[slot]
    }

    mutating func insert(_ value: Int32, at key: UInt64) {
        if count * 2 >= keys.count { grow() }
        let slot = slot(of: key)
        if keys[slot] == 0 { count += 1 }
        keys[slot] = key &+ 1
        values[slot] = value
    }

    private mutating func grow() {
        let (oldKeys, oldValues) = (keys, values)
        keys = [UInt64](repeating: 0, count: oldKeys.count * 2)
        values = [Int32](repeating: 0, count: oldKeys.count * 2)
        for (index, key) in oldKeys.enumerated() where key != 0 {
            let slot = slot(of: key &- 1)
            keys[slot] = key
            values[slot] = oldValues[index]
        }
    }
}
