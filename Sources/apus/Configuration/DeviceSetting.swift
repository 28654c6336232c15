// What `--device` says: auto, cpu, cuda, cuda:N, or a UUID.

/// Where the operator wants to compute.
package enum DeviceSetting: Equatable, Sendable {
    /// A GPU when there is one that can be used, the CPU when not.
    case auto
    case cpu
    case cuda(GPU)

    /// Which GPU.
    package enum GPU: Equatable, Sendable {
        case first
        case ordinal(Int)
        /// With its `GPU-` or `MIG-`.
        case uuid(String)
    }

    /// nil when `text` is none of the words, a number out of range, or no UUID.
    package init?(_ text: String) {
        let word = text.lowercased()
        switch word {
        case "auto": self = .auto
        case "cpu": self = .cpu
        case "cuda", "gpu": self = .cuda(.first)
        case _ where word.hasPrefix("cuda:"):
            guard let ordinal = UInt8(word.dropFirst(5)) else { return nil }
            self = .cuda(.ordinal(Int(ordinal)))
        case _ where word.hasPrefix("gpu-") || word.hasPrefix("mig-"):
            let digits = word.dropFirst(4)
            guard !digits.isEmpty, digits.allSatisfy({ $0.isHexDigit && $0.isASCII || $0 == "-" }) else { return nil }
            self = .cuda(.uuid(word))
        default: return nil
        }
    }
}
