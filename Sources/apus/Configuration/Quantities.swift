// Numbers as operators write them: 8k, 32K, 2GiB, 30s. Everything is exact and checked: a text either names one
// whole number that fits an Int, or it is refused.

/// A whole number with an optional suffix.
package enum Quantity {
    /// Suffixes of counts: lower case is decimal, upper case binary.
    package static let countUnits: [(suffix: String, factor: Int)] = [
        ("k", 1000), ("m", 1_000_000), ("g", 1_000_000_000),
        ("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30),
    ]

    /// The number that `text` names: digits, perhaps a decimal fraction, perhaps one of `units`. Nil when it is not
    /// of that form, is not whole, or does not fit.
    package static func parse(_ text: String, units: [(suffix: String, factor: Int)]) -> Int? {
        let isNegative = text.hasPrefix("-")
        let digits = isNegative ? text.dropFirst() : text[...]
        let number = digits.prefix { $0.isASCII && ($0.isNumber || $0 == "." || $0 == "_") }
        let suffix = digits.dropFirst(number.count).drop { $0 == " " }
        var factor = 1
        if !suffix.isEmpty {
            guard let unit = units.first(where: { $0.suffix == suffix }) else { return nil }
            factor = unit.factor
        }
        guard let magnitude = scale(number.filter { $0 != "_" }, by: factor) else { return nil }
        return isNegative ? -magnitude : magnitude
    }

    /// `number` (digits with at most one point) times `factor`, exactly.
    private static func scale(_ number: String, by factor: Int) -> Int? {
        let parts = number.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        guard let first = parts.first, let whole = Int(first), whole >= 0 else { return nil }
        let (scaled, overflow) = whole.multipliedReportingOverflow(by: factor)
        guard !overflow else { return nil }
        guard parts.count == 2 else { return scaled }
        guard (1...9).contains(parts[1].count), let fraction = Int(parts[1]), fraction >= 0 else { return nil }
        let denominator = (0..<parts[1].count).reduce(1) { power, _ in power * 10 }
        // Nine digits times a factor of at most 2^40 could overflow; such a text is refused like any other.
        let (product, tooLarge) = fraction.multipliedReportingOverflow(by: factor)
        guard !tooLarge, product % denominator == 0 else { return nil }
        let (sum, overflows) = scaled.addingReportingOverflow(product / denominator)
        return overflows ? nil : sum
    }
}

/// Numbers of bytes.
package enum ByteCount {
    /// Suffixes of sizes. A single letter means the binary unit in either case: nobody sizes a cache in powers of ten.
    package static let units: [(suffix: String, factor: Int)] = [
        ("B", 1),
        ("kB", 1000), ("KB", 1000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000),
        ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40),
        ("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("t", 1 << 40),
        ("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40),
    ]

    /// `bytes` exactly, in the largest binary unit that divides it.
    package static func describe(_ bytes: Int) -> String {
        for (suffix, factor) in [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        where bytes != 0 && bytes % factor == 0 {
            return "\(bytes / factor)\(suffix)"
        }
        return "\(bytes)"
    }

    /// `bytes` to two decimals in a unit that suits it, for reports: 1.95 GiB.
    package static func approximate(_ bytes: Int) -> String {
        for (suffix, factor) in [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        where bytes.magnitude >= factor {
            return "\(Decimals.format(Double(bytes) / Double(factor), places: 2)) \(suffix)"
        }
        return "\(bytes) B"
    }
}

/// Times in whole milliseconds.
package enum Milliseconds {
    /// Suffixes of times; a bare number is in seconds.
    package static let units: [(suffix: String, factor: Int)] = [
        ("ms", 1), ("s", 1000), ("m", 60_000), ("min", 60_000), ("h", 3_600_000),
    ]

    /// The milliseconds that `text` names, in seconds when it has no unit.
    package static func parse(_ text: String) -> Int? {
        let hasUnit = text.last.map { !$0.isNumber } ?? false
        return Quantity.parse(hasUnit ? text : text + "s", units: units)
    }

    package static func describe(_ milliseconds: Int) -> String {
        milliseconds % 1000 == 0 ? "\(milliseconds / 1000)s" : "\(milliseconds)ms"
    }
}

/// Numbers with a fixed count of decimals, without Foundation's locale.
package enum Decimals {
    package static func format(_ value: Double, places: Int) -> String {
        guard value.isFinite, value.magnitude < 1e15 else { return String(value) }
        let scale = (0..<places).reduce(1.0) { power, _ in power * 10 }
        let scaled = Int((value.magnitude * scale).rounded())
        let sign = value < 0 && scaled != 0 ? "-" : ""
        guard places > 0 else { return "\(sign)\(scaled)" }
        let (whole, fraction) = scaled.quotientAndRemainder(dividingBy: Int(scale))
        let digits = String(fraction)
        return "\(sign)\(whole)." + String(repeating: "0", count: max(0, places - digits.count)) + digits
    }
}
