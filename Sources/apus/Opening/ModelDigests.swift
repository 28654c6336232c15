// What a running model is made of, in three short strings that change when it does: for /v1/models, the metrics and the
// log. Weights of gigabytes are not read through for it: where a pull has verified a file and it is unchanged, its
// SHA-256 is known; otherwise pages all over the file stand for it, and the digest says so.

import Foundation
import JSON
import Serving
import Tokenization

/// The digests of a model, its tokenizer and its template.
struct ModelDigests: Sendable, Equatable {
    /// "sha256:…" of the weights' files, or "sampled:…" where they were not read through.
    let model: String
    /// "sha256:…" of the vocabulary, the merges and the special tokens.
    let tokenizer: String
    /// "sha256:…" of the chat template's source; nil where there is none.
    let template: String?

    /// - Parameter files: the weights' files, in their order.
    init(files: [String], tokenizer definition: TokenizerDefinition, template source: String?) throws {
        var known = SHA256()
        var sampled = SHA256()
        var areKnown = true
        for file in files {
            let name = URL(filePath: file).lastPathComponent
            if let digest = Self.verified(file) {
                // One file is known by its own digest.
                if files.count == 1 {
                    model = "sha256:\(digest)"
                    tokenizer = Self.digest(of: definition)
                    template = source.map(Self.digest)
                    return
                }
                known.update(Array("\(name) \(digest)\n".utf8).span)
            } else {
                areKnown = false
            }
            try Self.sample(file, into: &sampled)
        }
        model = areKnown ? "sha256:\(known.finalize())" : "sampled:\(sampled.finalize())"
        tokenizer = Self.digest(of: definition)
        template = source.map(Self.digest)
    }

    private static func digest(_ text: String) -> String {
        var hash = SHA256()
        hash.update(Array(text.utf8).span)
        return "sha256:\(hash.finalize())"
    }

    private static func digest(of definition: TokenizerDefinition) -> String {
        var hash = SHA256()
        hash.update(definition.pieces.bytes.span)
        hash.update(definition.merges.bytes.span)
        var numbers: [UInt8] = []
        for type in definition.types { numbers.append(UInt8(truncatingIfNeeded: type)) }
        for score in definition.scores { withNumber(score.bitPattern, into: &numbers) }
        let ids = [definition.bos, definition.eos, definition.unk, definition.pad]
        for id in ids { withNumber(UInt32(bitPattern: id ?? -1), into: &numbers) }
        hash.update(numbers.span)
        return "sha256:\(hash.finalize())"
    }

    private static func withNumber(_ number: UInt32, into bytes: inout [UInt8]) {
        for shift in stride(from: 0, to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: number >> shift)) }
    }

    /// The SHA-256 that a pull has verified, if the file is as it was then.
    private static func verified(_ file: String) -> String? {
        let folder = URL(filePath: file).deletingLastPathComponent().path
        return ModelStore.verifiedDigest(of: file) ?? HubPuller.verifiedDigest(of: file, in: folder)
    }

    private static let pageBytes = 4096
    private static let pageCount = 64

    /// The file's size, its beginning, its end and pages between.
    private static func sample(_ file: String, into hash: inout SHA256) throws {
        try fileSystem("read", file) {
            let handle = try FileHandle(forReadingFrom: URL(filePath: file))
            defer { handle.closeFile() }
            let byteCount = try handle.seekToEnd()
            hash.update(Array("\(byteCount)\n".utf8).span)
            let last = byteCount > UInt64(pageBytes) ? byteCount - UInt64(pageBytes) : 0
            for page in 0..<UInt64(pageCount) {
                try handle.seek(toOffset: last / UInt64(pageCount - 1) * page)
                hash.update([UInt8](try handle.read(upToCount: pageBytes) ?? Data()).span)
            }
        }
    }
}
