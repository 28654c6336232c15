// Source to tokens. All of Jinja's whitespace control happens here, as Python's `jinja2` does it with `trim_blocks`
// and `lstrip_blocks` on: the parser sees only text that is printed.

extension Jinja {
    /// A token and where it begins.
    struct Token: Sendable {
        enum Kind: Sendable, Equatable {
            case data([UInt8])
            case blockBegin, blockEnd, variableBegin, variableEnd
            case name(String)
            case string(String)
            case integer(Int)
            case float(Double)
            case symbol(Symbol)
            case end
        }

        let kind: Kind
        let location: TemplateLocation
    }

    /// Operators and punctuation; of those that begin alike the longest is listed first.
    enum Symbol: String, Sendable, CaseIterable {
        case floorDivide = "//"
        case power = "**"
        case equal = "=="
        case notEqual = "!="
        case greaterOrEqual = ">="
        case lessOrEqual = "<="
        case add = "+"
        case subtract = "-"
        case divide = "/"
        case multiply = "*"
        case modulo = "%"
        case concatenate = "~"
        case leftBracket = "["
        case rightBracket = "]"
        case leftParenthesis = "("
        case rightParenthesis = ")"
        case leftBrace = "{"
        case rightBrace = "}"
        case greater = ">"
        case less = "<"
        case assign = "="
        case dot = "."
        case colon = ":"
        case pipe = "|"
        case comma = ","
        case semicolon = ";"

        /// The bracket that closes this one.
        var closing: Symbol? {
            switch self {
            case .leftBracket: .rightBracket
            case .leftParenthesis: .rightParenthesis
            case .leftBrace: .rightBrace
            default: nil
            }
        }
    }

    /// Cuts a template's source into tokens.
    struct Lexer {
        private let bytes: [UInt8]
        private let nesting: Int
        private let symbols: [(spelling: [UInt8], symbol: Symbol)]
        private var position = 0
        private var location = TemplateLocation(line: 1, column: 1)
        private var startsLine = true
        private var tokens: [Token] = []

        private init(_ source: String, nesting: Int) {
            self.nesting = nesting
            bytes = Self.normalised(Array(source.utf8))
            symbols = Symbol.allCases.map { (Array($0.rawValue.utf8), $0) }
        }

        /// All tokens of the source, the last one being `end`. Brackets nest `nesting` deep at most.
        static func tokens(of source: String, nesting: Int) throws(TemplateError) -> [Token] {
            var lexer = Lexer(source, nesting: nesting)
            while lexer.position < lexer.bytes.count { try lexer.scanData() }
            lexer.emit(.end)
            return lexer.tokens
        }

        /// Every line ends in `\n`, and the last one in nothing.
        private static func normalised(_ source: [UInt8]) -> [UInt8] {
            var result: [UInt8] = []
            result.reserveCapacity(source.count)
            for (index, byte) in source.enumerated() {
                if byte == UInt8(ascii: "\r") {
                    result.append(UInt8(ascii: "\n"))
                } else if byte != UInt8(ascii: "\n") || index == 0 || source[index - 1] != UInt8(ascii: "\r") {
                    result.append(byte)
                }
            }
            if result.last == UInt8(ascii: "\n") { result.removeLast() }
            return result
        }
    }
}

// MARK: - Text between tags

extension Jinja.Lexer {
    private enum Opening { case block, variable, comment }

    private mutating func scanData() throws(TemplateError) {
        var begin = position
        var opening: Opening?
        while begin < bytes.count, opening == nil {
            if bytes[begin] == UInt8(ascii: "{") {
                switch byte(at: begin + 1) {
                case UInt8(ascii: "%"): opening = .block
                case UInt8(ascii: "{"): opening = .variable
                case UInt8(ascii: "#"): opening = .comment
                default: break
                }
            }
            if opening == nil { begin += 1 }
        }
        guard let opening else { return emitData(through: bytes.count) }
        let sign = sign(at: begin + 2)
        let inner = begin + 2 + (sign == nil ? 0 : 1)
        emitData(upTo: begin, sign: sign, strips: opening != .variable)
        switch opening {
        case .comment:
            try skipComment(from: inner)
        case .variable:
            try scanTag(from: inner, begin: .variableBegin, end: .variableEnd)
        case .block:
            if let body = endOfTag("raw", from: inner, trims: false) {
                try scanRaw(from: body)
            } else {
                try scanTag(from: inner, begin: .blockBegin, end: .blockEnd)
            }
        }
    }

    /// Emits the text up to a tag, less the white space that the tag's sign or its place on the line removes.
    private mutating func emitData(upTo begin: Int, sign: UInt8?, strips: Bool) {
        var end = begin
        if sign == UInt8(ascii: "-") {
            end =
                position
                + Jinja.Text(bytes: Array(bytes[position..<begin]), trusted: true)
                .trimmedRange(leading: false).upperBound
        } else if sign == nil, strips {
            var lineStart = begin
            while lineStart > position, bytes[lineStart - 1] != UInt8(ascii: "\n") { lineStart -= 1 }
            let line = Jinja.Text(bytes: Array(bytes[lineStart..<begin]), trusted: true)
            if lineStart > position || startsLine, line.trimmedRange().isEmpty { end = lineStart }
        }
        emitData(through: end)
        advance(to: begin)
    }

    private mutating func emitData(through end: Int) {
        if end > position { emit(.data(Array(bytes[position..<end]))) }
        advance(to: end)
    }

    private mutating func skipComment(from inner: Int) throws(TemplateError) {
        var index = inner
        while index < bytes.count {
            if byte(at: index) == UInt8(ascii: "#"), byte(at: index + 1) == UInt8(ascii: "}") {
                let sign = index > inner ? self.sign(at: index - 1) : nil
                leave(at: index + 2, sign: sign, trims: true)
                return
            }
            index += 1
        }
        throw malformed("the comment is never closed")
    }

    private mutating func scanRaw(from body: Int) throws(TemplateError) {
        leave(at: body, sign: bytes[body - 3] == UInt8(ascii: "-") ? UInt8(ascii: "-") : nil, trims: false)
        var index = position
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "{"), byte(at: index + 1) == UInt8(ascii: "%") {
                let sign = sign(at: index + 2)
                if let end = endOfTag("endraw", from: index + 2 + (sign == nil ? 0 : 1), trims: true) {
                    emitData(upTo: index, sign: sign, strips: true)
                    leave(at: end, sign: self.sign(at: end - 3), trims: true)
                    return
                }
            }
            index += 1
        }
        throw malformed("the raw block is never closed")
    }

    /// The offset after a tag that consists of `name` alone, or nil if another tag is there.
    private func endOfTag(_ name: StaticString, from start: Int, trims: Bool) -> Int? {
        var index = skippingSpace(from: start)
        for character in name.description.utf8 {
            guard byte(at: index) == character else { return nil }
            index += 1
        }
        index = skippingSpace(from: index)
        if let sign = sign(at: index), sign == UInt8(ascii: "-") || trims { index += 1 }
        guard byte(at: index) == UInt8(ascii: "%"), byte(at: index + 1) == UInt8(ascii: "}") else { return nil }
        return index + 2
    }

    /// Steps over a closing delimiter and the white space that belongs to it.
    private mutating func leave(at end: Int, sign: UInt8?, trims: Bool) {
        var end = end
        if sign == UInt8(ascii: "-") {
            end = skippingSpace(from: end)
        } else if sign == nil, trims, byte(at: end) == UInt8(ascii: "\n") {
            end += 1
        }
        startsLine = byte(at: end - 1) == UInt8(ascii: "\n")
        advance(to: end)
    }
}

// MARK: - Inside a tag

extension Jinja.Lexer {
    private mutating func scanTag(
        from inner: Int, begin: Jinja.Token.Kind, end: Jinja.Token.Kind
    ) throws(TemplateError) {
        emit(begin)
        advance(to: inner)
        let isBlock = end == .blockEnd
        let close = isBlock ? UInt8(ascii: "%") : UInt8(ascii: "}")
        var open: [Jinja.Symbol] = []
        while true {
            advance(to: skippingSpace(from: position))
            guard let current = byte(at: position) else { throw malformed("the tag is never closed") }
            if open.isEmpty {
                let sign = sign(at: position).flatMap { isBlock || $0 == UInt8(ascii: "-") ? $0 : nil }
                let delimiter = position + (sign == nil ? 0 : 1)
                if byte(at: delimiter) == close, byte(at: delimiter + 1) == UInt8(ascii: "}") {
                    emit(end)
                    return leave(at: delimiter + 2, sign: sign, trims: isBlock)
                }
            }
            switch current {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): try scanNumber()
            case UInt8(ascii: "'"), UInt8(ascii: "\""): try scanString(quote: current)
            default:
                if !scanName() { try scanSymbol(&open) }
            }
        }
    }

    private mutating func scanName() -> Bool {
        var end = position
        while let current = byte(at: end) {
            let width = current < 0x80 ? 1 : current < 0xE0 ? 2 : current < 0xF0 ? 3 : 4
            guard
                let scalar = String(decoding: bytes[end..<min(end + width, bytes.count)], as: UTF8.self)
                    .unicodeScalars.first,
                scalar == "_" || (end == position ? scalar.properties.isXIDStart : scalar.properties.isXIDContinue)
            else { break }
            end += width
        }
        guard end > position else { return false }
        emit(.name(String(decoding: bytes[position..<end], as: UTF8.self)))
        advance(to: end)
        return true
    }

    private mutating func scanSymbol(_ open: inout [Jinja.Symbol]) throws(TemplateError) {
        for (spelling, symbol) in symbols where bytes[position...].starts(with: spelling) {
            if let closing = symbol.closing {
                guard open.count < nesting else { throw .exceeded(.nesting, limit: nesting, location) }
                open.append(closing)
            } else if symbol == .rightBracket || symbol == .rightParenthesis || symbol == .rightBrace {
                guard let expected = open.popLast() else { throw malformed("unexpected '\(symbol.rawValue)'") }
                guard expected == symbol else {
                    throw malformed("unexpected '\(symbol.rawValue)', expected '\(expected.rawValue)'")
                }
            }
            emit(.symbol(symbol))
            return advance(to: position + spelling.count)
        }
        throw malformed("unexpected character")
    }

    private mutating func scanNumber() throws(TemplateError) {
        let start = position
        if bytes[start] == UInt8(ascii: "0"), let radix = radix(at: start + 1) {
            let (digits, end) = digits(from: start + 2, radix: radix, leadingUnderscore: true)
            if end > start + 2 { return try emitInteger(digits, radix: radix, end: end) }
        }
        var (text, end) = digits(from: start, radix: 10, leadingUnderscore: false)
        let whole = text
        let wholeEnd = end
        var isFloat = false
        if byte(at: end) == UInt8(ascii: ".") {
            let (fraction, fractionEnd) = digits(from: end + 1, radix: 10, leadingUnderscore: false)
            if fractionEnd > end + 1 {
                text += "." + fraction
                end = fractionEnd
                isFloat = true
            }
        }
        if let mark = byte(at: end), mark | 0x20 == UInt8(ascii: "e") {
            let sign = sign(at: end + 1)
            let from = end + 1 + (sign == nil ? 0 : 1)
            let (exponent, exponentEnd) = digits(from: from, radix: 10, leadingUnderscore: false)
            if exponentEnd > from {
                text += "e" + (sign == UInt8(ascii: "-") ? "-" : "") + exponent
                end = exponentEnd
                isFloat = true
            }
        }
        if isFloat, start == 0 || bytes[start - 1] != UInt8(ascii: "."), let value = Double(text) {
            emit(.float(value))
            return advance(to: end)
        }
        if whole.first == "0", let nonzero = whole.firstIndex(where: { $0 != "0" }) {
            // As in Python, `007` is not a number: the zeros are one, and what follows is out of place.
            return try emitInteger("0", radix: 10, end: start + whole.distance(from: whole.startIndex, to: nonzero))
        }
        try emitInteger(whole, radix: 10, end: wholeEnd)
    }

    private mutating func emitInteger(_ digits: String, radix: Int, end: Int) throws(TemplateError) {
        guard let value = Int(digits, radix: radix) else { throw malformed("the integer does not fit in 64 bits") }
        emit(.integer(value))
        advance(to: end)
    }

    private func radix(at offset: Int) -> Int? {
        switch byte(at: offset) {
        case UInt8(ascii: "x"), UInt8(ascii: "X"): 16
        case UInt8(ascii: "o"), UInt8(ascii: "O"): 8
        case UInt8(ascii: "b"), UInt8(ascii: "B"): 2
        default: nil
        }
    }

    /// Digits with single underscores between them; the underscores are left out.
    private func digits(from start: Int, radix: Int, leadingUnderscore: Bool) -> (text: String, end: Int) {
        var text = ""
        var index = start
        while let current = byte(at: index) {
            let scalar = Character(Unicode.Scalar(current))
            if let value = scalar.hexDigitValue, value < radix {
                text.append(scalar)
                index += 1
            } else if current == UInt8(ascii: "_"), leadingUnderscore || index > start, let next = byte(at: index + 1),
                let value = Character(Unicode.Scalar(next)).hexDigitValue, value < radix
            {
                index += 1
            } else {
                break
            }
        }
        return (text, index)
    }
}

// MARK: - Strings

extension Jinja.Lexer {
    private mutating func scanString(quote: UInt8) throws(TemplateError) {
        var result: [UInt8] = []
        var index = position + 1
        while let current = byte(at: index), current != quote {
            index += 1
            guard current == UInt8(ascii: "\\") else {
                result.append(current)
                continue
            }
            guard let escape = byte(at: index) else { break }
            index += 1
            try appendEscape(escape, to: &result, next: &index)
        }
        guard byte(at: index) == quote else { throw malformed("the string is never closed") }
        emit(.string(String(decoding: result, as: UTF8.self)))
        advance(to: index + 1)
    }

    private func appendEscape(
        _ escape: UInt8, to result: inout [UInt8], next index: inout Int
    ) throws(TemplateError) {
        switch escape {
        case UInt8(ascii: "n"): result.append(0x0A)
        case UInt8(ascii: "t"): result.append(0x09)
        case UInt8(ascii: "r"): result.append(0x0D)
        case UInt8(ascii: "a"): result.append(0x07)
        case UInt8(ascii: "b"): result.append(0x08)
        case UInt8(ascii: "f"): result.append(0x0C)
        case UInt8(ascii: "v"): result.append(0x0B)
        case UInt8(ascii: "\n"): break
        case UInt8(ascii: "\\"), UInt8(ascii: "'"), UInt8(ascii: "\""): result.append(escape)
        case UInt8(ascii: "x"): try appendScalar(digits: 2, radix: 16, exact: true, to: &result, next: &index)
        case UInt8(ascii: "u"): try appendScalar(digits: 4, radix: 16, exact: true, to: &result, next: &index)
        case UInt8(ascii: "U"): try appendScalar(digits: 8, radix: 16, exact: true, to: &result, next: &index)
        case UInt8(ascii: "0")...UInt8(ascii: "7"):
            index -= 1
            try appendScalar(digits: 3, radix: 8, exact: false, to: &result, next: &index)
        case UInt8(ascii: "N"): throw malformed("character names in strings are not supported")
        default: result += [UInt8(ascii: "\\"), escape]
        }
    }

    private func appendScalar(
        digits: Int, radix: UInt32, exact: Bool, to result: inout [UInt8], next index: inout Int
    ) throws(TemplateError) {
        var code: UInt32 = 0
        var read = 0
        while read < digits, let current = byte(at: index),
            let digit = Character(Unicode.Scalar(current)).hexDigitValue, digit < radix
        {
            code = code &* radix &+ UInt32(digit)
            read += 1
            index += 1
        }
        guard !exact || read == digits, let scalar = Unicode.Scalar(code) else {
            throw malformed("a string holds an escape that names no character")
        }
        result += Array(String(Character(scalar)).utf8)
    }
}

// MARK: - Cursor

extension Jinja.Lexer {
    private func byte(at offset: Int) -> UInt8? {
        offset >= 0 && offset < bytes.count ? bytes[offset] : nil
    }

    private func sign(at offset: Int) -> UInt8? {
        byte(at: offset).flatMap { $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "+") ? $0 : nil }
    }

    private func skippingSpace(from start: Int) -> Int {
        var index = start
        while let current = byte(at: index) {
            if current == 0x20 || (0x09...0x0D).contains(current) || (0x1C...0x1F).contains(current) {
                index += 1
            } else if current >= 0x80, let width = Jinja.Text.spaceWidth(bytes, at: index) {
                index += width
            } else {
                break
            }
        }
        return index
    }

    private mutating func emit(_ kind: Jinja.Token.Kind) {
        tokens.append(Jinja.Token(kind: kind, location: location))
    }

    private mutating func advance(to end: Int) {
        while position < end, position < bytes.count {
            if bytes[position] == UInt8(ascii: "\n") {
                location.line += 1
                location.column = 1
            } else if Jinja.Text.isBoundary(bytes[position]) {
                location.column += 1
            }
            position += 1
        }
    }

    private func malformed(_ reason: String) -> TemplateError { .malformed(location, reason: reason) }
}
