// All settings with their values in force and where each came from. Precedence: flag, then environment, then file,
// then default. Resolution reads every value of every source, also the overridden ones, and reports all problems.

/// A setting without which a command cannot run.
package struct RequiredSetting: Sendable {
    package let setting: Setting
    /// How to give it, as a sentence.
    package let repair: String

    package init(setting: Setting, repair: String) {
        self.setting = setting
        self.repair = repair
    }
}

/// The value of every setting, and who set it.
package struct ResolvedSettings: Sendable, Equatable {
    package struct Entry: Sendable, Equatable {
        package let value: SettingValue
        package let origin: Origin

        package init(value: SettingValue, origin: Origin) {
            self.value = value
            self.origin = origin
        }
    }

    /// By the setting's name; every setting of the table has an entry.
    private var entries: [String: Entry]

    /// The settings in force when `flags` were given on the command line, `environment` is the process's, and the file
    /// is the one that `--config` or APUS_CONFIG names.
    ///
    /// - Parameter required: settings without which the command cannot run.
    package static func resolve(
        flags: SettingSource, environment: [String: String], required: [RequiredSetting] = []
    ) throws(ConfigurationError) -> ResolvedSettings {
        let variables = SettingSource(environment: environment)
        let path = (flags.given + variables.given).first { $0.name == Setting.config.name }?.texts.last
        let file = path.map { SettingSource(file: $0) } ?? SettingSource()
        return try resolve(sources: [flags, variables, file], required: required)
    }

    /// The settings in force, given sources with the highest precedence first.
    package static func resolve(
        sources: [SettingSource], required: [RequiredSetting] = []
    ) throws(ConfigurationError) -> ResolvedSettings {
        var problems = sources.flatMap(\.problems)
        var entries: [String: Entry] = [:]
        var faulty: Set<String> = []
        for setting in Setting.all {
            entries[setting.name] = Entry(value: setting.defaultValue, origin: .builtIn)
        }
        for given in sources.reversed().flatMap(\.given) {
            guard let setting = Setting.named(given.name) else { continue }
            switch setting.parse(given.texts) {
            case .success(let value):
                entries[given.name] = Entry(value: value, origin: given.origin)
            case .failure(let invalid):
                faulty.insert(given.name)
                let name = setting.name(at: given.origin)
                problems.append(
                    .init(
                        .invalid(
                            name: name, value: setting.isSecret ? "(hidden)" : invalid.text,
                            expectation: setting.expectation), from: given.origin)
                )
            }
        }
        let resolved = ResolvedSettings(entries: entries)
        for required in required {
            let setting = required.setting
            guard resolved[setting].value == .unset, !faulty.contains(setting.name) else { continue }
            problems.append(.init(.missing(name: setting.name, repair: required.repair)))
        }
        for check in ConfigurationCheck.all where check.settings.allSatisfy({ !faulty.contains($0.name) }) {
            if let sentence = check.contradiction(resolved) { problems.append(.init(.contradiction(sentence))) }
        }
        guard problems.isEmpty else { throw ConfigurationError(problems.sorted { $0.rank < $1.rank }) }
        return resolved
    }

    package subscript(_ setting: Setting) -> Entry {
        entries[setting.name] ?? Entry(value: setting.defaultValue, origin: .builtIn)
    }
}

extension ResolvedSettings {
    /// What differs from the defaults because somebody gave it: `max-num-seqs=32 (apus.yaml:2)`.
    package var given: [String] {
        Setting.all.compactMap { setting in
            let entry = self[setting]
            guard entry.origin != .builtIn, setting.name != Setting.model.name else { return nil }
            return "\(setting.name)=\(setting.describe(entry.value)) (\(entry.origin.describe(for: setting)))"
        }
    }
}

// MARK: Typed access

extension ResolvedSettings {
    /// The number, or nil when it is left to the server or not given.
    package func integer(_ setting: Setting) -> Int? {
        if case .integer(let value) = self[setting].value { value } else { nil }
    }

    /// The text or the chosen word, or nil when not given.
    package func text(_ setting: Setting) -> String? {
        if case .text(let value) = self[setting].value { value } else { nil }
    }

    package func texts(_ setting: Setting) -> [String] {
        if case .texts(let values) = self[setting].value { values } else { [] }
    }

    /// The times of a setting that takes them, or nil when not given.
    package func bounds(_ setting: Setting) -> [Double]? {
        let values = texts(setting).compactMap { Double($0) }
        return values.isEmpty ? nil : values
    }

    package func boolean(_ setting: Setting) -> Bool {
        self[setting].value == .boolean(true)
    }

    /// The number of a setting that always has one.
    package func number(_ setting: Setting) -> Int {
        guard let value = integer(setting) else { preconditionFailure("\(setting.name) is not always a number") }
        return value
    }

    /// The time of a setting that always has one.
    package func duration(_ setting: Setting) -> Duration {
        .milliseconds(number(setting))
    }

    /// The word of a setting, as the type whose raw values are its words.
    package func choice<Choice: RawRepresentable>(
        _ setting: Setting, as type: Choice.Type = Choice.self
    ) -> Choice where Choice.RawValue == String {
        guard let word = text(setting), let choice = Choice(rawValue: word) else {
            preconditionFailure("\(setting.name) takes words that \(type) does not have")
        }
        return choice
    }
}

extension Setting {
    /// How the setting is spelled where it was given.
    package func name(at origin: Origin) -> String {
        switch origin {
        case .flag: flag
        case .environment: environmentVariable
        case .file, .builtIn: name
        }
    }
}

extension ConfigurationProblem {
    /// Files first in the order of their lines, then flags, variables, and what concerns several settings.
    fileprivate var rank: (Int, Int) {
        switch (origin, reason) {
        case (.file(_, let line), _): (0, line)
        case (.flag, _): (1, 0)
        case (.environment, _): (2, 0)
        case (.builtIn, .unreadableFile): (0, 0)
        case (.builtIn, _): (3, 0)
        }
    }
}
