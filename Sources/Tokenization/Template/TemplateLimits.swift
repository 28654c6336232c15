// The budgets of the template engine. A template is a program from a stranger and its data come from another,
// so both compiling and rendering end early and with a typed error, whatever they are given.

/// Limits on one template and on one rendering of it.
package struct TemplateLimits: Sendable, Equatable {
    /// The template's source. [bytes of UTF-8]
    package var sourceBytes: Int
    /// Work in one rendering: one per node evaluated, one per 256 bytes of text and per 8 elements touched.
    package var steps: Int
    /// The output, and each string value on the way to it. [bytes of UTF-8]
    package var textBytes: Int
    /// Nesting of tags and brackets in the source, and of lists and mappings in values. [levels]
    package var nesting: Int
    /// Nesting of statements, expressions and macro calls while rendering. [levels]
    package var recursion: Int
    /// The length of `range`, and of each list or mapping. [elements]
    package var elements: Int

    package init(
        sourceBytes: Int = 256 << 10, steps: Int = 100_000, textBytes: Int = 1 << 20, nesting: Int = 64,
        recursion: Int = 192, elements: Int = 100_000
    ) {
        self.sourceBytes = sourceBytes
        self.steps = steps
        self.textBytes = textBytes
        self.nesting = nesting
        self.recursion = recursion
        self.elements = elements
    }
}
