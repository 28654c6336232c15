// Python's `%` formats, and decimal rounding that is exact where the product of two floats is not.

extension Jinja.Interpreter {
    /// Python's `format % values`, for the conversions s, r, d, i, u, f, x and %.
    mutating func formatted(_ format: Jinja.Text, _ values: [Jinja.Value]) throws(TemplateError) -> Jinja.Value {
        try spend(bytes: format.count)
        var result = Jinja.Text.empty
        var rest = values[...]
        var index = 0
        var plain = 0
        let bytes = format.bytes
        while index < bytes.count {
            guard bytes[index] == UInt8(ascii: "%") else {
                index += 1
                continue
            }
            try append(format[plain..<index], to: &result)
            var conversion = Jinja.Conversion(bytes, from: index + 1)
            guard let kind = conversion.kind else { throw invalid("the format ends in an incomplete conversion") }
            if kind == "%" {
                try append(format[index..<index + 1], to: &result)
            } else {
                guard let value = rest.popFirst() else { throw invalid("not enough values for the format") }
                try append(try converted(value, &conversion), to: &result)
            }
            index = conversion.end
            plain = index
        }
        guard rest.isEmpty else { throw invalid("too many values for the format") }
        try append(format[plain..<bytes.count], to: &result)
        return .string(result)
    }

    private mutating func converted(
        _ value: Jinja.Value, _ conversion: inout Jinja.Conversion
    ) throws(TemplateError) -> Jinja.Text {
        var text: Jinja.Text
        switch conversion.kind {
        case "s", "r":
            text = try conversion.kind == "s" ? self.text(of: value) : representation(of: value)
            if let precision = conversion.precision, precision < text.count {
                let boundaries = text.boundaries
                if precision < boundaries.count { text = text[0..<boundaries[precision]] }
            }
            conversion.padsWithZeros = false
        case "d", "i", "u", "x":
            let number: Int
            switch value.number {
            case .int(let value): number = value
            case .float(let value) where conversion.kind != "x":
                guard let whole = Int(exactly: value.rounded(.towardZero)) else { throw mismatch("%d", .float(value)) }
                number = whole
            default: throw mismatch("%d", value)
            }
            text = Jinja.Text(conversion.signed(String(number, radix: conversion.kind == "x" ? 16 : 10)))
        case "f":
            guard let number = value.number?.double, let digits = Jinja.fixed(number, conversion.precision ?? 6) else {
                throw mismatch("%f", value)
            }
            text = Jinja.Text(conversion.signed(digits))
        default:
            throw invalid("the format has a conversion that is not supported")
        }
        let missing = conversion.width - text.length
        guard missing > 0 else { return text }
        try checkRoom(for: missing, after: text.count)
        return conversion.padded(text, by: missing)
    }
}

extension Jinja {
    /// One conversion of a `%` format.
    struct Conversion {
        var kind: Character?
        var width = 0
        var precision: Int?
        var padsWithZeros = false
        private var isLeft = false
        private var showsPlus = false
        private(set) var end: Int

        init(_ bytes: [UInt8], from start: Int) {
            end = start
            func next(_ end: Int) -> Character? { end < bytes.count ? Character(Unicode.Scalar(bytes[end])) : nil }
            while let flag = next(end), "-+0 #".contains(flag) {
                isLeft = isLeft || flag == "-"
                showsPlus = showsPlus || flag == "+"
                padsWithZeros = padsWithZeros || flag == "0"
                end += 1
            }
            func number() -> Int {
                var value = 0
                while let digit = next(end)?.wholeNumberValue {
                    value = min(value * 10 + digit, 1 << 24)
                    end += 1
                }
                return value
            }
            width = number()
            if next(end) == "." {
                end += 1
                precision = number()
            }
            kind = next(end)
            end += 1
        }

        func signed(_ digits: String) -> String { showsPlus && !digits.hasPrefix("-") ? "+" + digits : digits }

        func padded(_ text: Text, by count: Int) -> Text {
            var result = Text.empty
            if isLeft {
                result.append(text)
                result.append([UInt8](repeating: UInt8(ascii: " "), count: count), trusted: false)
            } else if padsWithZeros {
                let sign = text.bytes.first == UInt8(ascii: "-") || text.bytes.first == UInt8(ascii: "+") ? 1 : 0
                result.append(text[0..<sign])
                result.append([UInt8](repeating: UInt8(ascii: "0"), count: count), trusted: false)
                result.append(text[sign..<text.count])
            } else {
                result.append([UInt8](repeating: UInt8(ascii: " "), count: count), trusted: false)
                result.append(text)
            }
            return result
        }
    }

    /// `value` rounded to `digits` decimals, half to even in the value's exact binary meaning; nil if out of reach.
    static func rounded(_ value: Double, _ digits: Int) -> (scaled: Double, scale: Double)? {
        guard value.isFinite, (0...22).contains(digits) else { return nil }
        var scale = 1.0
        for _ in 0..<digits { scale *= 10 }
        let product = value * scale
        guard product.magnitude < 0x1p52 else { return nil }
        let lost = (-product).addingProduct(value, scale)
        var scaled = product.rounded(.toNearestOrEven)
        let distance = product - scaled
        // The product was rounded too: what it lost decides where it seems to lie in the middle.
        if distance.magnitude == 0.5, lost != 0 { scaled = lost > 0 ? product.rounded(.up) : product.rounded(.down) }
        return (scaled, scale)
    }

    /// `value` with exactly `digits` decimals.
    static func fixed(_ value: Double, _ digits: Int) -> String? {
        guard let (scaled, _) = rounded(value, digits), let whole = Int(exactly: scaled.magnitude) else { return nil }
        var text = String(whole)
        if digits > 0 {
            text = String(repeating: "0", count: max(0, digits + 1 - text.count)) + text
            text.insert(".", at: text.index(text.endIndex, offsetBy: -digits))
        }
        return (value.sign == .minus ? "-" : "") + text
    }
}
