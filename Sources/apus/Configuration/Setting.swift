// One operator setting: its name, what values it takes, its default, and its sentence of help.
//
// Everything an operator can meet follows from this value: the flag (--max-num-seqs), the environment variable
// (APUS_MAX_NUM_SEQS), the key in the YAML file (max-num-seqs), the check, the help text and the documentation.

/// A setting of the server, described once.
package struct Setting: Sendable {
    /// The heading a setting is listed under, in the order of the help text.
    package enum Section: String, Sendable, CaseIterable {
        case model = "Model"
        case adapters = "LoRA adapters"
        case compute = "Compute"
        case cache = "KV cache"
        case scheduling = "Scheduling"
        case http = "HTTP"
        case logging = "Logging"
        case metrics = "Metrics"
    }

    /// What values a setting takes.
    package enum Kind: Sendable, Equatable {
        /// `--name` and `--no-name`; true or false in the file and the environment.
        case boolean
        /// A whole number, with suffixes k, m, g (powers of 1000) and K, M, G (powers of 1024).
        case integer(ClosedRange<Int>)
        /// One of a few whole numbers.
        case oneOf([Int])
        /// A number of bytes, with suffixes such as GiB and MB.
        case bytes(ClosedRange<Int>)
        /// A time, in milliseconds; seconds unless written with a unit (ms, s, m).
        case duration(ClosedRange<Int>)
        /// A share of a whole, from 0.01 to 1, kept in thousandths.
        case fraction
        /// One of a few words, in any case.
        case choice([String])
        /// Any text but the empty one.
        case text
        /// The path of a file or folder.
        case path
        /// One or more texts: the flag repeated, a YAML list, or separated by commas.
        case texts
        /// One or more times in seconds, ascending, as a list of texts.
        case bounds
    }

    /// Most values of a setting that takes times.
    static let maximumBounds = 64

    /// The flag without its dashes, which is also the key in the file.
    package let name: String
    package let section: Section
    package let kind: Kind
    /// Whether the word `auto` (and -1) leaves the value to the server.
    package let allowsAuto: Bool
    /// The value when nobody gives one.
    package let defaultValue: SettingValue
    /// What the setting does, without a full stop.
    package let help: String
    /// Names that other servers give to the same thing, to answer with the right one.
    package let aliases: [String]
    /// Whether its value is never shown: not in listings, logs or messages.
    package let isSecret: Bool

    package init(
        _ name: String, _ section: Section, _ kind: Kind, allowsAuto: Bool = false,
        default defaultValue: SettingValue = .unset, _ help: String, aliases: [String] = [],
        isSecret: Bool = false
    ) {
        self.name = name
        self.section = section
        self.kind = kind
        self.allowsAuto = allowsAuto
        self.defaultValue = defaultValue
        self.help = help
        self.aliases = aliases
        self.isSecret = isSecret
    }

    /// `--max-num-seqs` as it is written on a command line.
    package var flag: String { "--\(name)" }

    /// `APUS_MAX_NUM_SEQS` for `max-num-seqs`.
    package var environmentVariable: String {
        "APUS_" + name.uppercased().replacing("-", with: "_")
    }

    /// The values this setting takes, to end the sentence "must be …".
    package var expectation: String {
        let values =
            switch kind {
            case .boolean: "true or false"
            case .integer(let range): "a whole number \(Self.describe(range) { String($0) })"
            case .oneOf(let allowed): Self.alternatives(allowed.map { String($0) })
            case .bytes(let range): "a number of bytes \(Self.describe(range, ByteCount.describe)), such as 2GiB"
            case .duration(let range): "a time \(Self.describe(range, Milliseconds.describe)), such as 30s"
            case .fraction: "a fraction from 0.01 to 1, such as 0.9"
            case .choice(let words): Self.alternatives(words)
            case .text: "a text that is not empty"
            case .path: "a path that is not empty"
            case .texts: "one or more texts, none of them empty"
            case .bounds: "at most \(Self.maximumBounds) times in seconds above 0, each larger than the one before"
            }
        return allowsAuto ? "auto or \(values)" : values
    }

    /// `value` as an operator would write it.
    package func describe(_ value: SettingValue) -> String {
        switch (value, kind) {
        case (.unset, _): "-"
        case (.texts(let values), _) where isSecret: "\(values.count) (hidden)"
        case (_, _) where isSecret: "(hidden)"
        case (.auto, _): "auto"
        case (.boolean(let value), _): String(value)
        case (.integer(let value), .bytes): ByteCount.describe(value)
        case (.integer(let value), .duration): Milliseconds.describe(value)
        case (.integer(let value), .fraction): Decimals.format(Double(value) / 1000, places: value % 100 == 0 ? 1 : 3)
        case (.integer(let value), _): String(value)
        case (.text(let value), _): value
        case (.texts(let values), _): values.isEmpty ? "-" : values.joined(separator: ", ")
        }
    }

    /// Whether it takes several values.
    package var isList: Bool { kind == .texts || kind == .bounds }

    private static func describe(_ range: ClosedRange<Int>, _ element: (Int) -> String) -> String {
        range.upperBound == Int.max
            ? "of at least \(element(range.lowerBound))"
            : "from \(element(range.lowerBound)) to \(element(range.upperBound))"
    }

    private static func alternatives(_ words: [String]) -> String {
        guard let last = words.last, words.count > 1 else { return words.joined() }
        return words.dropLast().joined(separator: ", ") + " or " + last
    }
}

/// The value of a setting. What `integer` counts follows from the setting's kind.
package enum SettingValue: Sendable, Equatable {
    /// Not given, and without a default.
    case unset
    /// Left to the server, which resolves it from the model or the machine.
    case auto
    case boolean(Bool)
    case integer(Int)
    case text(String)
    case texts([String])
}
