// Many short byte strings in one allocation. A vocabulary is a hundred thousand strings of a few bytes each; as
// `String`s they would cost an allocation, a validation and a hash apiece, which is most of a slow tokenizer load.

/// An append-only list of byte strings, stored end to end.
package struct PackedStrings: Sendable {
    /// All entries, one after another, with nothing between them.
    package private(set) var bytes: [UInt8] = []
    /// [count] where each entry ends in `bytes`; it begins where the one before it ends.
    private(set) var ends: [Int] = []

    /// An empty list.
    package init() {}

    /// The entries of `strings` as UTF-8.
    package init(_ strings: some Sequence<String>) {
        for string in strings { append(string.utf8) }
    }

    /// How many entries there are.
    package var count: Int { ends.count }

    /// Makes room, so that appending `count` entries of `byteCount` bytes together allocates once.
    package mutating func reserve(count: Int, byteCount: Int) {
        ends.reserveCapacity(ends.count + count)
        bytes.reserveCapacity(bytes.count + byteCount)
    }

    /// Adds one entry. This is the overload that loads a checkpoint: it is not generic, so it is fast from any module.
    package mutating func append(_ entry: Span<UInt8>) {
        for index in entry.indices { bytes.append(entry[index]) }
        ends.append(bytes.count)
    }

    /// Adds one entry.
    package mutating func append(_ entry: some Sequence<UInt8>) {
        bytes.append(contentsOf: entry)
        ends.append(bytes.count)
    }

    /// The bytes of entry `index`, which must be in `0..<count`.
    package subscript(index: Int) -> ArraySlice<UInt8> { bytes[range(of: index)] }

    /// Where entry `index` lies in `bytes`.
    func range(of index: Int) -> Range<Int> {
        (index == 0 ? 0 : ends[index - 1])..<ends[index]
    }

    /// The entry equal to `text`, found by looking at all.
    package func firstIndex(of text: String) -> Int? {
        let wanted = Array(text.utf8)
        return (0..<count).first { range(of: $0).count == wanted.count && self[$0].elementsEqual(wanted) }
    }

    /// Entry `index` as text, with U+FFFD where it is not UTF-8: for error messages.
    func text(of index: Int) -> String { String(decoding: self[index], as: UTF8.self) }
}
