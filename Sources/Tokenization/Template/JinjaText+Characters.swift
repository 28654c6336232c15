// Python's notions of white space, case and character classes, over Unicode's properties.

extension Jinja.Text {
    /// The bytes of the white space character at `index` if it is one outside of ASCII, or nil.
    static func spaceWidth(_ bytes: [UInt8], at index: Int) -> Int? {
        guard index < bytes.count else { return nil }
        switch bytes[index] {
        case 0xC2:
            guard index + 1 < bytes.count else { return nil }
            return bytes[index + 1] == 0x85 || bytes[index + 1] == 0xA0 ? 2 : nil
        case 0xE1, 0xE2, 0xE3:
            guard index + 2 < bytes.count else { return nil }
            let code =
                UInt32(bytes[index] & 0x0F) << 12 | UInt32(bytes[index + 1] & 0x3F) << 6
                | UInt32(bytes[index + 2] & 0x3F)
            switch code {
            case 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000: return 3
            default: return nil
            }
        default: return nil
        }
    }

    static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000: true
        default: false
        }
    }

    private func spaceWidth(at index: Int) -> Int? {
        let byte = bytes[index]
        if byte < 0x80 { return Self.isSpace(Unicode.Scalar(byte)) ? 1 : nil }
        return Self.spaceWidth(bytes, at: index)
    }

    /// The bytes that are left when white space is taken from the ends.
    func trimmedRange(leading: Bool = true, trailing: Bool = true) -> Range<Int> {
        var start = 0
        while leading, start < bytes.count, let width = spaceWidth(at: start) { start += width }
        var end = bytes.count
        while trailing, end > start {
            var last = end - 1
            while last > start, !Self.isBoundary(bytes[last]) { last -= 1 }
            guard spaceWidth(at: last) != nil else { break }
            end = last
        }
        return start..<end
    }

    /// The bytes that are left when characters of `set` are taken from the ends.
    func trimmedRange(of set: Jinja.Text, leading: Bool = true, trailing: Bool = true) -> Range<Int> {
        let members = Set(set.string.unicodeScalars)
        var start = 0
        var end = bytes.count
        let scalars = string.unicodeScalars
        if leading {
            for scalar in scalars {
                guard members.contains(scalar) else { break }
                start += UTF8.width(scalar)
            }
        }
        if trailing {
            for scalar in scalars.reversed() {
                guard end > start, members.contains(scalar) else { break }
                end -= UTF8.width(scalar)
            }
        }
        return start..<end
    }

    /// The stretches between white space.
    var words: [Range<Int>] {
        var words: [Range<Int>] = []
        var start: Int?
        var index = 0
        while index < bytes.count {
            if let width = spaceWidth(at: index) {
                if let begin = start { words.append(begin..<index) }
                start = nil
                index += width
            } else {
                if start == nil { start = index }
                index += 1
                while index < bytes.count, !Self.isBoundary(bytes[index]) { index += 1 }
            }
        }
        if let begin = start { words.append(begin..<bytes.count) }
        return words
    }

    /// The lines, with where each line's terminator ends.
    var lines: [(content: Range<Int>, end: Int)] {
        var lines: [(content: Range<Int>, end: Int)] = []
        var start = 0
        var index = 0
        while index < bytes.count {
            var width = 0
            switch bytes[index] {
            case 0x0D: width = index + 1 < bytes.count && bytes[index + 1] == 0x0A ? 2 : 1
            case 0x0A...0x0C, 0x1C...0x1E: width = 1
            case 0xC2 where index + 1 < bytes.count && bytes[index + 1] == 0x85: width = 2
            case 0xE2 where index + 2 < bytes.count && bytes[index + 1] == 0x80 && bytes[index + 2] & 0xFE == 0xA8:
                width = 3
            default: break
            }
            guard width > 0 else {
                index += 1
                continue
            }
            lines.append((start..<index, index + width))
            index += width
            start = index
        }
        if start < bytes.count { lines.append((start..<bytes.count, bytes.count)) }
        return lines
    }

    // MARK: Case

    /// Whether each byte is a character; then the two methods below do not look at Unicode's properties.
    var isASCII: Bool { bytes.allSatisfy { $0 < 0x80 } }

    var uppercased: Jinja.Text {
        if isASCII { return mapBytes { (0x61...0x7A).contains($0) ? $0 - 0x20 : $0 } }
        return mapScalars(\.properties.uppercaseMapping)
    }

    var lowercased: Jinja.Text {
        if isASCII { return mapBytes { (0x41...0x5A).contains($0) ? $0 + 0x20 : $0 } }
        if !bytes.contains(0xCE) { return mapScalars(\.properties.lowercaseMapping) }
        // A capital sigma at the end of a word has a form of its own.
        let scalars = Array(string.unicodeScalars)
        var result = Jinja.Text.empty
        var isAfterLetter = false
        var offset = 0
        for (index, scalar) in scalars.enumerated() {
            var mapped = scalar.properties.lowercaseMapping
            if scalar.value == 0x3A3, isAfterLetter {
                let next = scalars[(index + 1)...].prefix(64).first { !$0.properties.isCaseIgnorable }
                if next?.properties.isCased != true { mapped = "\u{3C2}" }
            }
            result.append(mapped.utf8, trusted: isTrusted(at: offset))
            offset += UTF8.width(scalar)
            if !scalar.properties.isCaseIgnorable { isAfterLetter = scalar.properties.isCased }
        }
        return result
    }

    /// The first character in title case and the others in lower case.
    var capitalized: Jinja.Text {
        guard let first = string.unicodeScalars.first else { return self }
        let width = UTF8.width(first)
        var result = Jinja.Text(bytes: Array(first.properties.titlecaseMapping.utf8), trusted: isTrusted(at: 0))
        result.append(self[width..<count].lowercased)
        return result
    }

    /// Python's `title`: a letter that follows no letter is in title case, every other one in lower case.
    var titled: Jinja.Text {
        var isAfterLetter = false
        return mapScalars { scalar in
            defer { isAfterLetter = scalar.properties.isCased }
            return isAfterLetter ? scalar.properties.lowercaseMapping : scalar.properties.titlecaseMapping
        }
    }

    var caseSwapped: Jinja.Text {
        mapScalars { scalar in
            scalar.properties.isUppercase
                ? scalar.properties.lowercaseMapping
                : scalar.properties.isLowercase ? scalar.properties.uppercaseMapping : String(Character(scalar))
        }
    }

    /// Whether it has letters with case, all of them lower.
    var isLowercase: Bool {
        let cased = string.unicodeScalars.filter(\.properties.isCased)
        return !cased.isEmpty && cased.allSatisfy(\.properties.isLowercase)
    }

    /// Whether it has letters with case, all of them upper.
    var isUppercase: Bool {
        let cased = string.unicodeScalars.filter(\.properties.isCased)
        return !cased.isEmpty && cased.allSatisfy(\.properties.isUppercase)
    }

    /// Whether it has characters, and all of them satisfy `test`.
    func isAll(_ test: (Unicode.Scalar) -> Bool) -> Bool { !isEmpty && string.unicodeScalars.allSatisfy(test) }

    static func isLetter(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
        default: false
        }
    }

    static func isDecimal(_ scalar: Unicode.Scalar) -> Bool { scalar.properties.generalCategory == .decimalNumber }

    static func isDigit(_ scalar: Unicode.Scalar) -> Bool {
        scalar.properties.numericType == .digit || scalar.properties.numericType == .decimal
    }

    static func isNumeric(_ scalar: Unicode.Scalar) -> Bool { scalar.properties.numericType != nil }

    /// Whether Python's `repr` prints it as it is.
    static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: false
        case .spaceSeparator: scalar == " "
        default: true
        }
    }
}
