// What a repository holds at one commit, as the hub tells it, and which of its files a server needs. The answer comes
// from elsewhere: every name is checked before it becomes part of a path.

import JSON

/// A file of a repository.
package struct HubFile: Sendable, Equatable, Codable {
    /// How its content is known.
    package enum Digest: Sendable, Equatable, Codable {
        case sha256(String)
        /// Git's name for the content, which large files do not have.
        case gitBlob(String)
    }

    /// A path inside the repository.
    package let path: String
    package let byteCount: Int
    package let digest: Digest
}

/// A repository's files at one commit.
package struct HubListing: Sendable, Equatable {
    package let commit: String
    package let files: [HubFile]

    private static let maxFiles = 4096

    /// Reads the hub's answer about `repository`.
    package init(_ answer: [UInt8], of repository: HubRepository) throws(PullError) {
        var limits = JSONLimits()
        limits.membersPerObject = 1 << 16
        let tree: JSONValue
        do throws(JSONError) { tree = try JSONParser.parse(answer, limits: limits) } catch {
            throw .badListing("\(repository)", reason: "it is not JSON at byte \(error.offset): \(error.reason)")
        }
        guard case .string(let commit) = tree.member("sha"), HubRepository.isCommit(commit) else {
            throw .badListing("\(repository)", reason: "sha is not a commit")
        }
        guard case .array(let siblings) = tree.member("siblings"), siblings.count <= Self.maxFiles else {
            throw .badListing("\(repository)", reason: "siblings is not a list of at most \(Self.maxFiles) files")
        }
        self.commit = commit
        var files: [HubFile] = []
        var paths: Set<String> = []
        for sibling in siblings {
            // Files of other kinds may be called what they like.
            guard case .string(let path) = sibling.member("rfilename"), Self.isWanted(path) else { continue }
            guard Self.isPath(path), paths.insert(path).inserted else {
                throw .badListing("\(repository)", reason: "\(JSONValue.quoted(path)) is no path for a file")
            }
            files.append(try Self.file(path, sibling, repository))
        }
        self.files = files
    }

    private static func file(
        _ path: String, _ sibling: JSONValue, _ repository: HubRepository
    ) throws(PullError) -> HubFile {
        func isHex(_ text: String, _ count: Int) -> Bool {
            text.utf8.count == count && text.utf8.allSatisfy(HubRepository.isHexDigit)
        }
        let large = sibling.member("lfs")
        if case .string(let sha256) = large.member("sha256"), isHex(sha256, 64),
            let size = large.member("size").exactInteger ?? sibling.member("size").exactInteger, size >= 0
        {
            return HubFile(path: path, byteCount: size, digest: .sha256(sha256))
        }
        if case .string(let blob) = sibling.member("blobId"), isHex(blob, 40),
            let size = sibling.member("size").exactInteger,
            size >= 0
        {
            return HubFile(path: path, byteCount: size, digest: .gitBlob(blob))
        }
        throw .badListing("\(repository)", reason: "\(path) has no size, or no digest to check it against")
    }

    private static func isWanted(_ path: String) -> Bool {
        [".safetensors", ".json", ".jinja", ".gguf"].contains { path.hasSuffix($0) }
    }

    /// Plain names below one another: nothing that leads elsewhere or hides.
    private static func isPath(_ path: String) -> Bool {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        return path.utf8.count <= 255 && parts.count <= 4
            && parts.allSatisfy { part in
                !part.isEmpty && part.first != "."
                    && part.utf8.allSatisfy {
                        $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\\") && $0 != UInt8(ascii: ":")
                    }
            }
    }

    /// The files to fetch: one GGUF file with its parts where `file` names it or there is nothing else, otherwise the
    /// weights, the configurations and the templates that lie at the top.
    package func selection(file: String?, of repository: HubRepository) throws(PullError) -> [HubFile] {
        let ggufs = files.filter { $0.path.hasSuffix(".gguf") }
        if let file {
            guard let found = files.first(where: { $0.path == file }) else {
                throw .noSuchFile(file, repository: "\(repository)", known: ggufs.map(\.path).sorted())
            }
            return found.path.hasSuffix(".gguf") ? parts(of: found) : [found]
        }
        let top = files.filter { !$0.path.contains("/") }
        var weights = top.filter { $0.path.hasSuffix(".safetensors") }
        // Some repositories hold the same weights a second time, in another layout.
        let named = weights.filter { $0.path.hasPrefix("model") }
        if !named.isEmpty { weights = named }
        guard weights.isEmpty else {
            return top.filter { $0.path.hasSuffix(".json") || $0.path.hasSuffix(".jinja") } + weights
        }
        guard let first = ggufs.first, ggufs.allSatisfy({ parts(of: first).contains($0) }) else {
            throw .noSuchFile(nil, repository: "\(repository)", known: ggufs.map(\.path).sorted())
        }
        return parts(of: first)
    }

    /// A file and, if it is one of several "-00001-of-00003.gguf", the others.
    private func parts(of file: HubFile) -> [HubFile] {
        guard let range = file.path.firstRange(of: /-[0-9]{5}-of-[0-9]{5}\.gguf$/) else { return [file] }
        let (stem, count) = (file.path[..<range.lowerBound], file.path.suffix(10))
        return files.filter {
            $0.path.hasPrefix(stem) && $0.path.hasSuffix(count) && $0.path.utf8.count == file.path.utf8.count
        }.sorted { $0.path < $1.path }
    }
}

extension JSONValue {
    /// The member of that name; null where there is none.
    fileprivate func member(_ name: String) -> JSONValue {
        guard case .object(let members) = self else { return .null }
        return members.first { $0.name == name }?.value ?? .null
    }
}
