// How keys and values are kept. The words are the setting's, and vLLM's where it has the same.

/// The form of cached keys and values.
package enum KVCacheType: String, Sendable, CaseIterable {
    /// What the backend chooses: `float32` where it computes in 32-bit floats, else `bfloat16`.
    case auto
    case float32
    case bfloat16
    /// 8-bit floats (E4M3).
    case fp8
    /// Signed 8-bit integers, with a scale for each token's key and value of each head.
    case int8PerTokenHead = "int8_per_token_head"

    /// Bytes that a token's keys and values take in one layer, on any backend; nil where a backend has to choose first.
    package func bytesPerToken(kvHeads: Int, headDim: Int) -> Int? {
        switch self {
        case .auto: nil
        case .float32: 2 * kvHeads * headDim * 4
        case .bfloat16: 2 * kvHeads * headDim * 2
        // A byte for each element, and a scale for each head.
        case .fp8, .int8PerTokenHead: 2 * kvHeads * (headDim + 4)
        }
    }
}
