// Recorded texts. A test that changes one on purpose is run once with RECORD_GOLDENS=1, which rewrites the file and
// fails, so that a recording run never passes unnoticed.

import Foundation
import Testing

struct Golden {
    let file: URL

    init(_ name: String) {
        file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Goldens/\(name)")
    }

    init(_ file: URL) {
        self.file = file
    }

    /// Expects `text` to be the recorded one, but for line breaks at the end.
    func expect(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let text = trimmed(text) + "\n"
        if ProcessInfo.processInfo.environment["RECORD_GOLDENS"] != nil {
            try text.write(to: file, atomically: true, encoding: .utf8)
            Issue.record("recorded \(file.lastPathComponent)", sourceLocation: sourceLocation)
            return
        }
        let recorded = try String(contentsOf: file, encoding: .utf8)
        #expect(text == recorded, "\(file.lastPathComponent)", sourceLocation: sourceLocation)
    }

    private func trimmed(_ text: String) -> String {
        var text = text[...]
        while text.last?.isNewline == true { text.removeLast() }
        return String(text)
    }
}
