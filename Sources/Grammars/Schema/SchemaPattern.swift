// Where a schema's regular expressions are read: an error in one names the schema's place and the character.

import JSON

enum SchemaPattern {
    /// The strings in which `pattern` is found somewhere.
    static func expression(_ pattern: String, _ place: SchemaPlace) throws(GrammarError) -> Expression {
        do throws(GrammarError) {
            return try RegularExpression.expression(pattern, extent: .anywhere)
        } catch {
            switch error {
            case .malformed(let inner, let reason):
                throw GrammarError.malformed(place: "\(place), \(inner)", reason: reason)
            case .unsupported(let inner, let what):
                throw GrammarError.unsupported(place: "\(place), \(inner)", what: what)
            default: throw error
            }
        }
    }
}
