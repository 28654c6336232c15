// A stretch of text together with the authority it carries. A chat template renders into runs: its own markup may
// name control tokens, what a user wrote may not. The encoder reads the flag; nothing else does.

/// A stretch of text and whether control tokens spelled inside it are recognised as such.
package struct TextRun: Sendable, Equatable {
    /// The characters of this run.
    package let text: String
    /// True for text the model's own template wrote; false for text that came from a user.
    package let allowsControlTokens: Bool

    /// A run of `text`, trusted to spell control tokens only where `allowsControlTokens` says so.
    package init(text: String, allowsControlTokens: Bool) {
        self.text = text
        self.allowsControlTokens = allowsControlTokens
    }
}
