// The name a client may give its request. It is a label in answers and logs and never a key: the engine's own ids are
// made by the server.

/// A request's label: the client's, where that is harmless, or one of ours.
struct RequestLabel: Sendable {
    /// 1 to 128 visible ASCII characters.
    let text: String
    private let isFromClient: Bool

    private static let maxLength = 128

    init(header: String?) {
        if let header, (1...Self.maxLength).contains(header.utf8.count),
            header.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
        {
            text = header
            isFromClient = true
        } else {
            text = Self.hexadecimal(UInt64.random(in: 0 ... .max)) + Self.hexadecimal(UInt64.random(in: 0 ... .max))
            isFromClient = false
        }
    }

    /// What the answer's id is made of: the header's label, else the name that the body gives, else ours.
    func base(_ fields: PromptFields) -> String { isFromClient ? text : fields.requestID ?? text }

    private static func hexadecimal(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
