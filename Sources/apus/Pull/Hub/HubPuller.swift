// Brings a repository of the hub onto this machine: what it holds at one commit, several files at a time, each resumed,
// counted and hashed before it has its name. Beside them stands a lock: the commit, and every file's digest.

import Foundation
import JSON
import Serving
import Synchronization

/// What was pulled, and the state its files were in when they were verified.
package struct HubLock: Codable, Equatable {
    struct Entry: Codable, Equatable {
        let path: String
        let byteCount: Int
        /// Of the content, whatever the hub knew it by.
        let sha256: String
        let identity: FileIdentity
    }

    let repository: String
    let revision: String
    let commit: String
    let endpoint: String
    let files: [Entry]

    static let name = "apus.lock.json"
}

/// Pulls from the hub.
///
/// Blocks its thread; meant for the command line, before anything is served.
package struct HubPuller {
    /// The folder under which models are kept.
    private let root: String
    private let access: HubAccess
    private let transfer: HubTransfer
    private let isCancelled: () -> Bool

    private static let maxListingBytes = 32 << 20
    private static let parallelFiles = 4

    package init(
        root: String, python: String = "python3", environment: [String: String],
        isCancelled: @escaping () -> Bool = { false }
    ) throws(PullError) {
        self.root = root
        access = try HubAccess(environment: environment)
        transfer = HubTransfer(
            python: try PythonPath.find(python, environment: environment), environment: environment, token: access.token
        )
        self.isCancelled = isCancelled
    }

    /// Where a repository's commits are kept.
    private static func folder(_ repository: HubRepository, root: String) -> String {
        "\(root)/hub/\(repository.organization)/\(repository.name)"
    }

    /// What to open of a repository that was pulled and is unchanged: the folder, or its GGUF file; nil otherwise.
    package static func pulled(_ repository: HubRepository, file: String? = nil, root: String) -> String? {
        let folder = folder(repository, root: root)
        guard let commit = commit(repository, in: folder), let lock = lock(in: "\(folder)/\(commit)"),
            lock.files.allSatisfy({ FileIdentity.of("\(folder)/\(commit)/\($0.path)") == $0.identity })
        else { return nil }
        if let file, !lock.files.contains(where: { $0.path == file }) { return nil }
        return opened(lock.files.map(\.path), file: file, in: "\(folder)/\(commit)")
    }

    private static func opened(_ paths: [String], file: String?, in folder: String) -> String {
        if let file, file.hasSuffix(".gguf") { return "\(folder)/\(file)" }
        if paths.contains("config.json") { return folder }
        return paths.first { $0.hasSuffix(".gguf") }.map { "\(folder)/\($0)" } ?? folder
    }

    /// The digest that a file in a pulled folder was verified to have, if it is unchanged since.
    static func verifiedDigest(of path: String, in folder: String) -> String? {
        let name = URL(filePath: path).lastPathComponent
        guard let entry = lock(in: folder)?.files.first(where: { $0.path == name }),
            entry.identity == FileIdentity.of(path)
        else { return nil }
        return entry.sha256
    }

    private static func lock(in folder: String) -> HubLock? {
        guard let content = FileManager.default.contents(atPath: "\(folder)/\(HubLock.name)") else { return nil }
        do { return try JSONDecoder().decode(HubLock.self, from: content) } catch { return nil }
    }

    /// The commit that the revision was when it was last pulled.
    private static func commit(_ repository: HubRepository, in folder: String) -> String? {
        if HubRepository.isCommit(repository.revision) { return repository.revision }
        guard let content = FileManager.default.contents(atPath: reference(repository, in: folder)) else { return nil }
        let commit = String(decoding: content, as: UTF8.self)
        return HubRepository.isCommit(commit) ? commit : nil
    }

    private static func reference(_ repository: HubRepository, in folder: String) -> String {
        "\(folder)/ref-" + repository.revision.replacingOccurrences(of: "/", with: "%2F")
    }

    // MARK: Pulling

    /// Pulls what is missing of `repository` and returns what to open.
    package func ensure(
        _ repository: HubRepository, file: String? = nil, report: (PullEvent) -> Void
    ) throws(PullError) -> String {
        let folder = Self.folder(repository, root: root)
        let work = "\(folder)/.work"
        try fileSystem("create", work) {
            try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: true)
        }
        let guarding = try waitForLock(folder, report)
        let listing = try listing(of: repository, work)
        let selection = try listing.selection(file: file, of: repository)
        let target = "\(folder)/\(listing.commit)"
        try fileSystem("create", target) {
            try FileManager.default.createDirectory(atPath: target, withIntermediateDirectories: true)
        }
        let before = Self.lock(in: target)?.files ?? []
        let known = before.filter { FileIdentity.of("\(target)/\($0.path)") == $0.identity }
        let missing = selection.filter { wanted in !known.contains { $0.path == wanted.path } }
        for entry in known { report(.present(path: "\(target)/\(entry.path)")) }
        try requireSpace(target, missing)
        var entries = known
        try fetch(missing, of: repository, listing.commit, into: target, work, report) { entry throws(PullError) in
            entries.append(entry)
            // Written after every file, so that what is verified is not verified again.
            try write(entries, repository, listing.commit, in: target)
        }
        try write(entries, repository, listing.commit, in: target)
        let reference = Self.reference(repository, in: folder)
        try fileSystem("write", reference) {
            try Data(listing.commit.utf8).write(to: URL(filePath: reference), options: .atomic)
        }
        try fileSystem("remove", work) { try FileManager.default.removeItem(atPath: work) }
        _ = consume guarding
        return Self.opened(selection.map(\.path), file: file, in: target)
    }

    private func waitForLock(_ folder: String, _ report: (PullEvent) -> Void) throws(PullError) -> FileLock {
        var hasReported = false
        while true {
            if let lock = try FileLock.attempt(path: folder + "/.lock") { return lock }
            if !hasReported { report(.waiting(folder: folder)) }
            hasReported = true
            guard !isCancelled() else { throw .interrupted }
            Thread.sleep(forTimeInterval: 0.1)
        }
    }

    private func listing(of repository: HubRepository, _ work: String) throws(PullError) -> HubListing {
        let path = "\(work)/listing"
        if FileManager.default.fileExists(atPath: path) {
            try fileSystem("remove", path) { try FileManager.default.removeItem(atPath: path) }
        }
        try transfer.fetch(
            access.listing(repository), to: path, limit: Self.maxListingBytes,
            what: "\(repository) at \(repository.revision)", work: work, isCancelled: isCancelled)
        let answer = try fileSystem("read", path) { try Data(contentsOf: URL(filePath: path)) }
        return try HubListing([UInt8](answer), of: repository)
    }

    private func requireSpace(_ folder: String, _ files: [HubFile]) throws(PullError) {
        let attributes = try fileSystem("examine", folder) {
            try FileManager.default.attributesOfFileSystem(forPath: folder)
        }
        let present = files.reduce(0) { $0 + Int(FileIdentity.of(part($1, in: folder))?.byteCount ?? 0) }
        let needed = files.reduce(0) { $0 &+ $1.byteCount } - present
        guard let available = (attributes[.systemFreeSize] as? NSNumber)?.intValue, available < needed else { return }
        throw .notEnoughSpace(folder: folder, available: available, needed: needed)
    }

    private func write(
        _ entries: [HubLock.Entry], _ repository: HubRepository, _ commit: String, in folder: String
    ) throws(PullError) {
        let lock = HubLock(
            repository: "\(repository)", revision: repository.revision, commit: commit, endpoint: access.endpoint,
            files: entries.sorted { $0.path < $1.path })
        try fileSystem("write", "\(folder)/\(HubLock.name)") {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            try encoder.encode(lock).write(to: URL(filePath: "\(folder)/\(HubLock.name)"), options: .atomic)
        }
    }

    // MARK: Files

    /// What has arrived of a file; it stays when a pull ends early, and the next one goes on from there.
    private func part(_ file: HubFile, in folder: String) -> String {
        "\(folder)/.part-" + file.path.replacingOccurrences(of: "/", with: "%2F")
    }

    /// Downloads several files at once, and verifies each on this thread as it arrives.
    private func fetch(
        _ files: [HubFile], of repository: HubRepository, _ commit: String, into folder: String, _ work: String,
        _ report: (PullEvent) -> Void, verified: (HubLock.Entry) throws(PullError) -> Void
    ) throws(PullError) {
        let jobs = files.sorted { $0.byteCount > $1.byteCount }.map { file in
            HubJob(
                file: file, address: access.file(file.path, of: repository, commit: commit),
                part: part(file, in: folder), what: "\(file.path) of \(repository)")
        }
        let queue = HubQueue(jobs)
        let threads = (0..<min(Self.parallelFiles, jobs.count)).map { number in
            let folder = "\(work)/\(number)"
            return HubWorker(queue, transfer, folder: folder)
        }
        for thread in threads { thread.start() }
        defer {
            queue.stop()
            for thread in threads { thread.waitUntilFinished() }
        }
        let start = ContinuousClock.now
        let total = files.reduce(0) { $0 + $1.byteCount }
        var finished = 0
        var finishedBytes = 0
        while finished < jobs.count {
            guard !isCancelled() else { throw .interrupted }
            if let (job, result) = queue.takeArrived() {
                try result.get()
                report(
                    .downloading(
                        file: title(repository, jobs), received: finishedBytes + job.file.byteCount, total: total,
                        elapsed: .now - start))
                try verified(verify(job, in: folder, report))
                finished += 1
                finishedBytes += job.file.byteCount
                continue
            }
            let open = queue.open.reduce(0) { $0 + Int(FileIdentity.of($1.part)?.byteCount ?? 0) }
            report(
                .downloading(
                    file: title(repository, jobs), received: finishedBytes + open, total: total,
                    elapsed: .now - start))
            Thread.sleep(forTimeInterval: 0.05)
        }
    }

    private func title(_ repository: HubRepository, _ jobs: [HubJob]) -> String {
        jobs.count == 1 ? jobs[0].file.path : "\(jobs.count) files of \(repository)"
    }

    /// Counts and hashes what arrived, and gives it its name.
    private func verify(
        _ job: HubJob, in folder: String, _ report: (PullEvent) -> Void
    ) throws(PullError) -> HubLock.Entry {
        let start = ContinuousClock.now
        let handle = try fileSystem("read", job.part) { try FileHandle(forUpdating: URL(filePath: job.part)) }
        var (sha256, blob) = (SHA256(), GitBlobID(byteCount: job.file.byteCount))
        var count = 0
        while let piece = try fileSystem("read", job.part, { try handle.read(upToCount: 1 << 20) }), !piece.isEmpty {
            guard !isCancelled() else { throw .interrupted }
            sha256.update([UInt8](piece).span)
            if case .gitBlob = job.file.digest { blob.update([UInt8](piece)) }
            count += piece.count
            report(
                .verifying(
                    file: job.file.path, written: count, total: job.file.byteCount, elapsed: .now - start))
        }
        try fileSystem("write", job.part) {
            try handle.synchronize()
            try handle.close()
        }
        let digest = sha256.finalize()
        let (actual, expected): (String, String) =
            switch job.file.digest {
            case .sha256(let expected): (digest, expected)
            case .gitBlob(let expected): (blob.finalize(), expected)
            }
        guard count == job.file.byteCount, actual == expected else {
            try fileSystem("remove", job.part) { try FileManager.default.removeItem(atPath: job.part) }
            throw count == job.file.byteCount
                ? .wrongHubDigest(file: job.file.path, actual: actual, expected: expected)
                : .wrongHubSize(file: job.file.path, actual: count, expected: job.file.byteCount)
        }
        let path = "\(folder)/\(job.file.path)"
        let parent = URL(filePath: path).deletingLastPathComponent()
        try fileSystem("create", parent.path) {
            try FileManager.default.createDirectory(at: parent, withIntermediateDirectories: true)
        }
        try renameIntoPlace(job.part, path)
        guard let identity = FileIdentity.of(path) else {
            throw .fileSystem(operation: "find", path: path, reason: "it was removed while it was being verified")
        }
        report(.finished(path: path, sha256: digest, elapsed: .now - start))
        return HubLock.Entry(path: job.file.path, byteCount: count, sha256: digest, identity: identity)
    }
}
