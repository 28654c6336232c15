// How large the parts of a GGUF file may be.
//
// Real models are one to three orders of magnitude below these; a file above one of them is damaged or hostile, and
// is refused before anything of that size is allocated.

/// Limits a GGUF file must keep to be parsed.
package struct GGUFLimits: Sendable {
    /// Metadata entries.
    package var metadataCount: UInt64 = 16_384
    /// Tensors.
    package var tensorCount: UInt64 = 100_000
    /// Bytes of a metadata key.
    package var keyBytes = 65_535
    /// Bytes of a tensor's name.
    package var tensorNameBytes = 64
    /// Bytes of a string value or of a string in an array.
    package var stringBytes = 1 << 20
    /// Bytes of a chat template.
    package var templateBytes = 256 << 10
    /// Elements of one array: vocabularies have up to a million tokens and somewhat more merges.
    package var arrayElements: UInt64 = 4 << 20
    /// Dimensions of a tensor.
    package var dimensionCount: UInt32 = 4
    /// Where tensors may start: multiples of a power of two in this range.
    package var alignment = 8...4096

    package init() {}
}
