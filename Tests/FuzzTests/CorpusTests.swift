// The fuzzer's corpora, replayed: what once was new to a parser, or broke it, stays harmless.

import Foundation
import FuzzTargets
import Testing

struct CorpusTests {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Fuzz/Corpus")

    @Test(arguments: FuzzTarget.allCases)
    func `every input of the corpus is refused or harmless, each within two seconds`(target: FuzzTarget) throws {
        let folder = Self.folder.appending(path: target.rawValue)
        let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        #expect((10...100).contains(files.count), "\(files.count) inputs; a corpus is a sample")
        for file in files {
            let bytes = try [UInt8](Data(contentsOf: file))
            #expect(bytes.count <= 2048, "\(file.lastPathComponent) is large")
            let begin = ContinuousClock.now
            do {
                try target.run(bytes)
            } catch {
                Issue.record("\(file.lastPathComponent): \(error)")
            }
            #expect(begin.duration(to: .now) < .seconds(2), "\(file.lastPathComponent)")
        }
    }

    @Test func `a promise that does not hold is reported`() {
        #expect(throws: BrokenPromise.self) { try BrokenPromise.check(false, "said") }
        #expect(throws: BrokenPromise.self) { try BrokenPromise.check(refusal: "") }
        #expect(throws: BrokenPromise.self) { try BrokenPromise.check(refusal: String(repeating: "x", count: 2049)) }
    }
}
