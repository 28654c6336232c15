// The three places a setting can be given: flags, the environment, the file. Each source turns into a list of given
// texts and a list of problems; none of them interprets a value.

import Foundation
import Yams

/// A setting as somebody wrote it.
package struct GivenSetting: Sendable, Equatable {
    package let name: String
    package let texts: [String]
    package let origin: Origin

    package init(_ name: String, _ texts: [String], from origin: Origin) {
        self.name = name
        self.texts = texts
        self.origin = origin
    }
}

/// What one source gives.
package struct SettingSource: Sendable, Equatable {
    package var given: [GivenSetting] = []
    package var problems: [ConfigurationProblem] = []

    package init(given: [GivenSetting] = []) {
        self.given = given
    }
}

extension SettingSource {
    /// The variables that begin with APUS_. Not ours, and passed over, are those for the tests (APUS_TEST_…) and those
    /// that Kubernetes injects for a Service named `apus` (APUS_PORT=tcp://…, APUS_SERVICE_HOST, APUS_PORT_80_TCP).
    package init(environment: [String: String]) {
        for (variable, value) in environment.sorted(by: { $0.key < $1.key }) where variable.hasPrefix("APUS_") {
            if let setting = Setting.all.first(where: { $0.environmentVariable == variable }) {
                guard !(setting.name == Setting.port.name && value.contains("://")) else { continue }
                given.append(GivenSetting(setting.name, [value], from: .environment))
            } else if !variable.hasPrefix("APUS_TEST_") && !Self.isServiceLink(variable) {
                let suggestion = Suggestion.nearest(to: String(variable.dropFirst(5)), in: Setting.all)
                problems.append(
                    .init(
                        .unknown(name: variable, suggestion: suggestion?.environmentVariable), from: .environment))
            }
        }
    }

    private static func isServiceLink(_ variable: String) -> Bool {
        variable.hasPrefix("APUS_SERVICE_") || variable.wholeMatch(of: /APUS_PORT_[0-9]+_(TCP|UDP|SCTP).*/) != nil
    }
}

extension SettingSource {
    /// The longest configuration file that is read; a real one has a few hundred bytes.
    private static let maximumFileBytes = 256 << 10

    /// The settings of a YAML file: one mapping of names (hyphens or underscores) to values.
    package init(file path: String) {
        self.init()
        do throws(ConfigurationProblem) {
            self = SettingSource(yaml: try Self.read(path), path: path)
        } catch {
            problems.append(error)
        }
    }

    private static func read(_ path: String) throws(ConfigurationProblem) -> String {
        func unreadable(_ sentence: String) -> ConfigurationProblem { .init(.unreadableFile(sentence)) }
        guard path.hasSuffix(".yaml") || path.hasSuffix(".yml") else {
            throw unreadable("The configuration file \(path) must end in .yaml or .yml.")
        }
        let data: Data
        do {
            let attributes = try FileManager.default.attributesOfItem(atPath: path)
            guard attributes[.type] as? FileAttributeType != .typeDirectory else {
                throw unreadable("The configuration file \(path) is a folder.")
            }
            guard let size = attributes[.size] as? Int, size <= maximumFileBytes else {
                throw unreadable(
                    "The configuration file \(path) is larger than \(ByteCount.describe(maximumFileBytes)).")
            }
            data = try Data(contentsOf: URL(filePath: path))
        } catch let problem as ConfigurationProblem {
            throw problem
        } catch {
            throw unreadable("The configuration file \(path) cannot be read. Check that it exists and its permissions.")
        }
        guard let text = String(validating: data, as: UTF8.self) else {
            throw unreadable("The configuration file \(path) is not UTF-8.")
        }
        return text
    }

    /// The settings in the text of a YAML file that is called `path`.
    package init(yaml: String, path: String) {
        let root: Node?
        do {
            try Self.checkNesting(of: yaml, path: path)
            root = try Yams.compose(yaml: yaml)
        } catch {
            problems.append(Self.problem(with: error, path: path))
            return
        }
        // An empty file, or one of comments only, is a mapping of nothing.
        guard let root, !Self.isNull(root) else { return }
        guard case .mapping(let mapping) = root else {
            problems.append(
                .init(
                    .unreadableFile("The file must be a mapping, such as `port: 8000`."),
                    from: .file(path: path, line: root.mark?.line ?? 1)))
            return
        }
        var lines: [String: Int] = [:]
        for (key, value) in mapping {
            read(key: key, value: value, path: path, lines: &lines)
        }
    }

    private mutating func read(key: Node, value: Node, path: String, lines: inout [String: Int]) {
        let line = key.mark?.line ?? 1
        let origin = Origin.file(path: path, line: line)
        guard let written = key.scalar?.string else {
            problems.append(.init(.misshapen(name: "a key", form: "a list or a mapping"), from: origin))
            return
        }
        let name = written.replacing("_", with: "-")
        guard let setting = Setting.named(name), setting.name != Setting.config.name else {
            let candidates = Setting.all.filter { $0.name != Setting.config.name }
            let suggestion = Suggestion.nearest(to: written, in: candidates)
            problems.append(.init(.unknown(name: written, suggestion: suggestion?.name), from: origin))
            return
        }
        if let earlier = lines.updateValue(line, forKey: name) {
            problems.append(
                .init(
                    .contradiction("\(written) is given twice; line \(earlier) has it already."), from: origin))
            return
        }
        switch Self.texts(of: value, for: setting) {
        case .success(let texts): given.append(GivenSetting(name, texts, from: origin))
        case .failure(let misshapen):
            problems.append(.init(.misshapen(name: written, form: misshapen.form), from: origin))
        }
    }

    private struct MisshapenValue: Error {
        let form: String
    }

    private static func texts(of value: Node, for setting: Setting) -> Result<[String], MisshapenValue> {
        switch value {
        case .scalar(let scalar):
            return isNull(value) ? .failure(MisshapenValue(form: "no value")) : .success([scalar.string])
        case .sequence(let items) where setting.isList:
            let texts = items.compactMap { $0.scalar?.string }
            return texts.count == items.count
                ? .success(texts) : .failure(MisshapenValue(form: "a list of lists or mappings"))
        case .sequence: return .failure(MisshapenValue(form: "a list"))
        case .mapping: return .failure(MisshapenValue(form: "a mapping"))
        case .alias: return .failure(MisshapenValue(form: "an alias"))
        }
    }

    /// A plain `null`, `~` or nothing; a quoted one is a text.
    private static func isNull(_ node: Node) -> Bool {
        node.tag == Tag(.null)
    }
}

extension SettingSource {
    /// Settings nest one level deep. The YAML parser recurses, so a file that nests far deeper is refused before it
    /// is parsed: a level costs at least one bracket, one space of indentation, or one dash.
    private static func checkNesting(of yaml: String, path: String) throws(ConfigurationProblem) {
        var brackets = 0
        for (index, line) in yaml.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let indentation = line.utf8.prefix { " -?:".utf8.contains($0) }.count
            brackets += line.utf8.count { $0 == UInt8(ascii: "[") || $0 == UInt8(ascii: "{") }
            if indentation > 200 || brackets > 200 {
                throw ConfigurationProblem(
                    .unreadableFile("The line nests too deeply; settings are `name: value`."),
                    from: .file(path: path, line: index + 1))
            }
        }
    }

    private static func problem(with error: any Error, path: String) -> ConfigurationProblem {
        switch error {
        case let problem as ConfigurationProblem:
            return problem
        case YamlError.scanner(_, let problem, let mark, _), YamlError.parser(_, let problem, let mark, _),
            YamlError.composer(_, let problem, let mark, _):
            return .init(
                .unreadableFile("This is not YAML: \(problem) (column \(mark.column))."),
                from: .file(path: path, line: mark.line))
        case YamlError.duplicatedKeysInMapping(let duplicates, let context):
            return .init(
                .contradiction("\(duplicates.joined(separator: ", ")) is given twice."),
                from: .file(path: path, line: context.mark.line))
        default:
            return .init(.unreadableFile("The configuration file \(path) is not YAML: \(error)."))
        }
    }
}
