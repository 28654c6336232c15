// Who may use the server. Keys are kept as digests, and a presented one is compared with all of them in the same time
// whatever it is. Random keys need no slow hash.

/// The keys that open the server; none means that everybody may use it.
package struct APIKeys: Sendable, Equatable {
    /// A SHA-256 digest of each.
    private var digests: [[UInt8]] = []
    /// How many of those given as they are have fewer than `safeLength` characters.
    package private(set) var shortCount = 0

    /// A key as long as this is not found by trying: 16 random characters are more than 80 bits.
    package static let safeLength = 16

    package init() {}

    /// How many keys there are.
    package var count: Int { digests.count }

    package var isEmpty: Bool { digests.isEmpty }

    /// Adds a key that clients send as it is.
    package mutating func insert(_ key: String) {
        if key.utf8.count < Self.safeLength { shortCount += 1 }
        digests.append(Self.digest(key))
    }

    /// Adds a key by its digest of 64 hexadecimal digits.
    /// - Returns: false, and adds nothing, if it is not one.
    package mutating func insert(digest: Substring) -> Bool {
        let digits = digest.utf8.compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
        guard digits.count == 64, digest.utf8.count == 64 else { return false }
        digests.append(stride(from: 0, to: 64, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) })
        return true
    }

    /// Adds the keys of a file: one on a line, as it is or as `sha256:` and its digest. Empty lines and those that
    /// begin with # are passed over.
    /// - Returns: the number of the first line that is neither, from 1.
    package mutating func insert(file text: String) -> Int? {
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let key = line.drop { $0 == " " || $0 == "\t" }.prefix { $0 != " " && $0 != "\t" }
            if key.isEmpty || key.hasPrefix("#") { continue }
            if key.hasPrefix("sha256:") {
                guard insert(digest: key.dropFirst(7)) else { return index + 1 }
            } else {
                guard key.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else { return index + 1 }
                insert(String(key))
            }
        }
        return nil
    }

    /// Whether `key` is one of them. The time depends on the number of keys and the length of `key` alone.
    package func contains(_ key: String) -> Bool { number(of: key) > 0 }

    /// Which of the keys `key` is, from 1; 0 is none. The time depends on their number and the length of `key` alone.
    func number(of key: String) -> UInt64 {
        let presented = Self.digest(key)
        var number: UInt64 = 0
        for (index, digest) in digests.enumerated() {
            var difference: UInt8 = 0
            for index in 0..<32 { difference |= digest[index] ^ presented[index] }
            // All ones where nothing differs, without a branch.
            let matches = 0 &- UInt64((UInt16(difference) &- 1) >> 15)
            // Of a key that is listed twice, the last.
            number = matches & UInt64(index + 1) | ~matches & number
        }
        return number
    }

    private static func digest(_ key: String) -> [UInt8] {
        var hash = SHA256()
        hash.update(Array(key.utf8).span)
        return hash.bytes()
    }
}
