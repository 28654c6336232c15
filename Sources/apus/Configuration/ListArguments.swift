// Command lines that were written for vLLM give a list as words behind one flag: `--served-model-name a b`. Here each
// word is given a flag of its own before the arguments are parsed. Only behind the model: before it, the second word
// may be the model.

package enum ListArguments {
    /// The commands that take settings.
    private static let commands: Set = ["serve", "check"]

    /// Whether `arguments`, the command's name included, give settings.
    static func areSettings(_ arguments: [String]) -> Bool { arguments.first.map { commands.contains($0) } ?? false }

    /// `arguments`, the command's name included, with each word of a list behind a flag.
    package static func spelledOut(_ arguments: [String]) -> [String] {
        guard let command = arguments.first, areSettings(arguments) else { return arguments }
        var spelled = [command]
        var rest = arguments.dropFirst()
        var hasModel = false
        /// The flag that further words belong to.
        var list: String?
        while let word = rest.popFirst() {
            guard word.hasPrefix("-") else {
                spelled += list.map { [$0, word] } ?? [word]
                hasModel = true
                continue
            }
            spelled.append(word)
            list = nil
            guard let setting = Setting.named(String(word.drop { $0 == "-" }.prefix { $0 != "=" })),
                setting.kind != .boolean
            else { continue }
            if !word.contains("="), let value = rest.popFirst() { spelled.append(value) }
            if setting.isList && hasModel { list = setting.flag }
        }
        return spelled
    }
}
