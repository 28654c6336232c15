// "Did you mean …?": the known name nearest to a mistyped one.

package enum Suggestion {
    /// The name nearest to `name`: an exact alias first, then the smallest edit distance that is still a plausible
    /// slip, then a name that contains it or that it contains, then one that has all its words.
    package static func nearest(to name: String, in settings: [Setting]) -> Setting? {
        let wanted = normalize(name)
        if let alias = settings.first(where: { $0.aliases.contains(wanted) }) { return alias }
        let ranked = settings.map { (setting: $0, distance: editDistance(wanted, $0.name)) }
        if let best = ranked.min(by: { $0.distance < $1.distance }),
            best.distance <= max(1, min(wanted.count, best.setting.name.count) / 3)
        {
            return best.setting
        }
        guard wanted.count >= 4 else { return nil }
        if let container = settings.first(where: {
            $0.name.contains(wanted) || wanted.contains($0.name) && $0.name.count >= 4
        }) {
            return container
        }
        let words = Set(wanted.split(separator: "-"))
        guard words.count >= 2 else { return nil }
        return settings.first { words.isSubset(of: $0.name.split(separator: "-")) }
    }

    /// What the parser says of an unknown flag, with the nearest setting. The parser knows spellings, and not what
    /// other servers call a thing. nil where there is nothing to add.
    package static func improving(_ message: String) -> String? {
        let refusal = /Unknown option '--([a-z0-9_-]+)'(\. Did you mean '[^']*'\?)?/
        guard let found = message.firstMatch(of: refusal),
            let setting = nearest(to: String(found.1), in: Setting.all)
        else { return nil }
        return message[..<found.range.lowerBound] + "Unknown option '--\(found.1)'. Did you mean '\(setting.flag)'?"
            + message[found.range.upperBound...]
    }

    private static func normalize(_ name: String) -> String {
        String(name.prefix(64)).lowercased().replacing("_", with: "-")
    }

    /// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b` (optimal string alignment).
    package static func editDistance(_ a: String, _ b: String) -> Int {
        let (a, b) = (Array(a), Array(b))
        var beforePrevious = [Int](repeating: 0, count: b.count + 1)
        var previous = Array(0...b.count)
        for i in 0..<a.count {
            var current = [i + 1] + [Int](repeating: 0, count: b.count)
            for j in 0..<b.count {
                let substitution = previous[j] + (a[i] == b[j] ? 0 : 1)
                current[j + 1] = min(substitution, previous[j + 1] + 1, current[j] + 1)
                if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] {
                    current[j + 1] = min(current[j + 1], beforePrevious[j - 1] + 1)
                }
            }
            (beforePrevious, previous) = (previous, current)
        }
        return previous[b.count]
    }
}
