// The reference page of the settings, docs/configuration.md, as text made from the table; a test compares the two.

package enum SettingReference {
    /// The whole page.
    package static var markdown: String {
        introduction
            + Setting.Section.allCases.map { section in
                let rows = Setting.all.filter { $0.section == section }.map { setting in
                    "| `\(setting.name)` | `\(setting.environmentVariable)` | \(escape(setting.values)) "
                        + "| \(setting.defaultValue == .unset ? "" : "`\(setting.describe(setting.defaultValue))`") "
                        + "| \(escape(setting.help)) |"
                }
                return "## \(section.rawValue)\n\n| Setting | Variable | Values | Default | Meaning |\n"
                    + "|---|---|---|---|---|\n" + rows.joined(separator: "\n") + "\n"
            }.joined(separator: "\n")
    }

    private static let introduction = """
        # Configuration

        Every setting can be given as a flag (`--block-size 32`), as an environment variable (`APUS_BLOCK_SIZE=32`), or
        in the YAML file that `--config` names (`block-size: 32`, or `block_size: 32`). A flag wins over a variable, a
        variable over the file, and the file over the default. Names are vLLM's where vLLM has the setting.

        - Unknown names are refused, in the file and among variables that begin with `APUS_`, with the nearest known
          name; values out of range are refused wherever they are written. All problems are reported at once, and the
          exit code is 78.
        - `apus check --config apus.yaml` checks without serving; `apus serve --print-config` shows every value and
          where it came from. Both take `--json`.
        - Counts take `k`, `m`, `g` (powers of 1000) and `K`, `M`, `G` (powers of 1024). Sizes take `MiB`, `GiB`, `MB`
          and so on. Times are in seconds, or take `ms`, `s`, `m`, `h`.
        - A switch such as `enable-prefix-caching` is `--enable-prefix-caching` or `--no-enable-prefix-caching` as a
          flag, and `true` or `false` elsewhere. A list is a repeated flag, several words behind one that follows the
          model, a YAML or JSON list, or separated by commas.
        - Variables that Kubernetes injects for a Service named `apus` (`APUS_SERVICE_HOST`, `APUS_PORT=tcp://…`) are
          passed over.


        """

    private static func escape(_ text: String) -> String {
        text.replacing("|", with: "\\|")
    }
}

extension Setting {
    /// The values this setting takes, in short.
    fileprivate var values: String {
        let values =
            switch kind {
            case .boolean: "true, false"
            case .integer(let range): "\(range.lowerBound) to \(range.upperBound)"
            case .oneOf(let allowed): allowed.map { String($0) }.joined(separator: ", ")
            case .bytes(let range): "\(ByteCount.describe(range.lowerBound)) to \(ByteCount.describe(range.upperBound))"
            case .duration(let range):
                "\(Milliseconds.describe(range.lowerBound)) to \(Milliseconds.describe(range.upperBound))"
            case .fraction: "0.01 to 1"
            case .choice(let words): words.joined(separator: ", ")
            case .text: "text"
            case .path: "path"
            case .texts: "list of texts"
            case .bounds: "list of seconds"
            }
        return allowsAuto ? "auto, \(values)" : values
    }
}
