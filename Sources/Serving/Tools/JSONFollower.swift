// Follows one JSON value byte by byte and says where it ends: a strict RFC 8259 acceptor whose only memory is the kinds
// of the lists and objects it is in.

/// One value, as it arrives.
struct JSONFollower: Sendable {
    enum Step {
        case inside
        /// The byte was the value's last.
        case ended
        case invalid
    }

    private enum Place: Sendable {
        case value
        case elementOrEnd
        case keyOrEnd
        case key
        case colon
        case afterValue
        case string(isKey: Bool)
        case escape(isKey: Bool)
        case hexadecimal(left: Int, isKey: Bool)
        case word(rest: StaticWord)
        case number(Number)
    }

    /// What is left of `true`, `false` or `null`.
    private enum StaticWord: Sendable {
        case rue, ue, e, alse, lse, se, ull, ll, l

        func next(_ byte: UInt8) -> (isRight: Bool, rest: StaticWord?) {
            switch (self, byte) {
            case (.rue, UInt8(ascii: "r")): (true, .ue)
            case (.ue, UInt8(ascii: "u")): (true, .e)
            case (.e, UInt8(ascii: "e")): (true, nil)
            case (.alse, UInt8(ascii: "a")): (true, .lse)
            case (.lse, UInt8(ascii: "l")): (true, .se)
            case (.se, UInt8(ascii: "s")): (true, .e)
            case (.ull, UInt8(ascii: "u")): (true, .ll)
            case (.ll, UInt8(ascii: "l")): (true, .l)
            case (.l, UInt8(ascii: "l")): (true, nil)
            default: (false, nil)
            }
        }
    }

    private enum Number: Sendable { case minus, zero, integer, point, fraction, exponentSign, exponentStart, exponent }

    private let depthLimit: Int
    /// Whether each open container is an object, the innermost last.
    private var isObject: [Bool] = []
    private var place = Place.value

    init(depthLimit: Int) { self.depthLimit = depthLimit }

    /// Takes the next byte. A number alone has no end that could be seen, so the outermost value is never one.
    mutating func feed(_ byte: UInt8) -> Step {
        switch place {
        case .value: return isSpace(byte) ? .inside : begin(byte)
        case .elementOrEnd:
            if isSpace(byte) { return .inside }
            return byte == UInt8(ascii: "]") ? pop() : begin(byte)
        case .keyOrEnd, .key:
            if isSpace(byte) { return .inside }
            if case .keyOrEnd = place, byte == UInt8(ascii: "}") { return pop() }
            return move(byte == UInt8(ascii: "\""), .string(isKey: true))
        case .colon:
            if isSpace(byte) { return .inside }
            return move(byte == UInt8(ascii: ":"), .value)
        case .afterValue: return afterValue(byte)
        case .string(let isKey):
            switch byte {
            case UInt8(ascii: "\""): return isKey ? move(true, .colon) : valueEnded()
            case UInt8(ascii: "\\"): return move(true, .escape(isKey: isKey))
            case 0..<0x20: return .invalid
            default: return .inside
            }
        case .escape(let isKey):
            if byte == UInt8(ascii: "u") { return move(true, .hexadecimal(left: 4, isKey: isKey)) }
            return move("\"\\/bfnrt".utf8.contains(byte), .string(isKey: isKey))
        case .hexadecimal(let left, let isKey):
            return move(
                isHexadecimal(byte),
                left == 1 ? .string(isKey: isKey) : .hexadecimal(left: left - 1, isKey: isKey))
        case .word(let rest):
            let (isRight, rest) = rest.next(byte)
            if !isRight { return .invalid }
            if let rest { return move(true, .word(rest: rest)) }
            return valueEnded()
        case .number(let number): return inNumber(number, byte)
        }
    }

    private mutating func move(_ isRight: Bool, _ next: Place) -> Step {
        if !isRight { return .invalid }
        place = next
        return .inside
    }

    private mutating func begin(_ byte: UInt8) -> Step {
        switch byte {
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            guard isObject.count < depthLimit else { return .invalid }
            isObject.append(byte == UInt8(ascii: "{"))
            place = byte == UInt8(ascii: "{") ? .keyOrEnd : .elementOrEnd
        case UInt8(ascii: "\""): place = .string(isKey: false)
        case UInt8(ascii: "t"): place = .word(rest: .rue)
        case UInt8(ascii: "f"): place = .word(rest: .alse)
        case UInt8(ascii: "n"): place = .word(rest: .ull)
        case UInt8(ascii: "-"): place = .number(.minus)
        case UInt8(ascii: "0"): place = .number(.zero)
        case UInt8(ascii: "1")...UInt8(ascii: "9"): place = .number(.integer)
        default: return .invalid
        }
        return .inside
    }

    private mutating func pop() -> Step {
        isObject.removeLast()
        return valueEnded()
    }

    private mutating func valueEnded() -> Step {
        place = .afterValue
        return isObject.isEmpty ? .ended : .inside
    }

    private mutating func afterValue(_ byte: UInt8) -> Step {
        guard let isObject = isObject.last else { return .invalid }
        switch byte {
        case _ where isSpace(byte): return .inside
        case UInt8(ascii: ","): return move(true, isObject ? .key : .value)
        case UInt8(ascii: "}") where isObject, UInt8(ascii: "]") where !isObject: return pop()
        default: return .invalid
        }
    }

    private mutating func inNumber(_ number: Number, _ byte: UInt8) -> Step {
        let isDigit = (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        switch number {
        case .minus: return move(isDigit, .number(byte == UInt8(ascii: "0") ? .zero : .integer))
        case .point: return move(isDigit, .number(.fraction))
        case .exponentSign where byte == UInt8(ascii: "+") || byte == UInt8(ascii: "-"):
            return move(true, .number(.exponentStart))
        case .exponentSign, .exponentStart: return move(isDigit, .number(.exponent))
        case .integer where isDigit, .fraction where isDigit, .exponent where isDigit: return .inside
        case .zero where byte == UInt8(ascii: "."), .integer where byte == UInt8(ascii: "."):
            return move(true, .number(.point))
        case .zero where byte | 0x20 == UInt8(ascii: "e"), .integer where byte | 0x20 == UInt8(ascii: "e"),
            .fraction where byte | 0x20 == UInt8(ascii: "e"):
            return move(true, .number(.exponentSign))
        case .zero, .integer, .fraction, .exponent:
            place = .afterValue
            return afterValue(byte)
        }
    }

    private func isHexadecimal(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
            || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte | 0x20)
    }
}

/// Whether JSON lets this byte stand between values.
func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 }
