// What --print-config and `apus check` show: every setting, its value and where it came from, as a table for people
// or as JSON for tools.

package struct ConfigurationListing {
    package let settings: ResolvedSettings

    package init(_ settings: ResolvedSettings) {
        self.settings = settings
    }

    /// Three aligned columns: setting, value, origin.
    package var table: String {
        let rows =
            [("SETTING", "VALUE", "FROM")]
            + Setting.all.map { setting in
                let entry = settings[setting]
                return (setting.name, setting.describe(entry.value), entry.origin.describe(for: setting))
            }
        let nameWidth = rows.map(\.0.count).max() ?? 0
        let valueWidth = min(48, rows.map(\.1.count).max() ?? 0)
        return rows.map { name, value, origin in
            "\(name.padded(to: nameWidth))  \(value.padded(to: valueWidth))  \(origin)"
        }.joined(separator: "\n")
    }

    /// An array with one object for each setting.
    package var json: JSONText {
        .array(
            Setting.all.map { setting in
                let entry = settings[setting]
                var members: [(String, JSONText)] = [
                    ("setting", .string(setting.name)),
                    ("value", setting.isSecret && entry.value != .unset ? .string("(hidden)") : entry.value.json),
                    ("from", .string(entry.origin.word)),
                ]
                switch entry.origin {
                case .environment: members.append(("variable", .string(setting.environmentVariable)))
                case .file(let path, let line): members += [("file", .string(path)), ("line", .integer(line))]
                case .flag, .builtIn: break
                }
                return .object(members)
            })
    }
}

extension Origin {
    /// The one word for the kind of source.
    fileprivate var word: String {
        switch self {
        case .flag: "flag"
        case .environment: "environment"
        case .file: "file"
        case .builtIn: "default"
        }
    }

    /// Where exactly `setting` was given.
    package func describe(for setting: Setting) -> String {
        switch self {
        case .flag, .builtIn: word
        case .environment: setting.environmentVariable
        case .file(let path, let line): "\(path):\(line)"
        }
    }
}

extension SettingValue {
    /// The value with its JSON type; `auto` is a string, and a setting without a value is null.
    fileprivate var json: JSONText {
        switch self {
        case .unset: .null
        case .auto: .string("auto")
        case .boolean(let value): .boolean(value)
        case .integer(let value): .integer(value)
        case .text(let value): .string(value)
        case .texts(let values): .array(values.map { .string($0) })
        }
    }
}

extension String {
    /// Followed by spaces up to `width` characters.
    package func padded(to width: Int) -> String {
        self + String(repeating: " ", count: max(0, width - count))
    }

    /// Preceded by spaces up to `width` characters.
    package func indented(to width: Int) -> String {
        String(repeating: " ", count: max(0, width - count)) + self
    }
}
