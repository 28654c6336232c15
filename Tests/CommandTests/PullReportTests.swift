// What a pull tells: a bar for people, lines for logs, objects for programs; and digests against published vectors.

import Serving
import Testing
import apus

@Suite struct PullReportTests {
    private let events: [PullEvent] = [
        .downloading(file: "m.gguf", received: 0, total: 92_871_040, elapsed: .zero),
        .downloading(file: "m.gguf", received: 46_435_520, total: 92_871_040, elapsed: .seconds(4)),
        .downloading(file: "m.gguf", received: 93_000_000, total: 92_871_040, elapsed: .seconds(8)),
        .verifying(file: "m.gguf", written: 98_362_432, total: 98_362_432, elapsed: .milliseconds(100)),
        .finished(path: "/h/m.gguf", sha256: "ab", elapsed: .milliseconds(8_140)),
    ]

    private func text(_ style: PullReport.Style) -> String {
        var text = ""
        var report = PullReport(style: style) { text += $0 }
        for event in events { report.tell(event) }
        return text
    }

    @Test func `a terminal shows a bar with bytes, rate and time left`() {
        #expect(
            text(.terminal)
                == [
                    "\rDownloading m.gguf ░░░░░░░░░░░░░░░░░░░░░░░░ 0% of 92.9 MB\u{1B}[K",
                    "\rDownloading m.gguf ████████████░░░░░░░░░░░░ 50% of 92.9 MB, 11.6 MB/s, 4 s left\u{1B}[K",
                    "\rDownloading m.gguf ████████████████████████ 100% of 92.9 MB, 11.6 MB/s\u{1B}[K\n",
                    "\rVerifying m.gguf ████████████████████████ 100% of 98.4 MB\u{1B}[K\n",
                    "/h/m.gguf is in place after 8.1 s, SHA-256 ab.\n",
                ].joined())
    }

    @Test func `a log gets a line every five seconds`() {
        #expect(
            text(.plain) == """
                Downloading m.gguf: 0% of 92.9 MB
                Downloading m.gguf: 100% of 92.9 MB, 11.6 MB/s
                Verifying m.gguf: 100% of 98.4 MB
                /h/m.gguf is in place after 8.1 s, SHA-256 ab.

                """)
    }

    @Test func `a program gets every event as an object`() {
        #expect(
            text(.json) == """
                {"event":"downloading","file":"m.gguf","bytes":0,"total":92871040,"seconds":0.000}
                {"event":"downloading","file":"m.gguf","bytes":46435520,"total":92871040,"seconds":4.000}
                {"event":"downloading","file":"m.gguf","bytes":93000000,"total":92871040,"seconds":8.000}
                {"event":"verifying","file":"m.gguf","bytes":98362432,"total":98362432,"seconds":0.100}
                {"event":"finished","path":"/h/m.gguf","sha256":"ab","seconds":8.140}

                """)
    }

    @Test(arguments: [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
        (
            String(repeating: "a", count: 1_000_000),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        ),
    ])
    func `SHA-256 gives the standard's digests`(text: String, expected: String) {
        #expect(digest(Array(text.utf8)) == expected)
    }

    @Test func `SHA-256 does not depend on how the bytes arrive`() {
        let bytes = (0..<1_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let whole = digest(bytes)
        for size in [1, 3, 55, 56, 63, 64, 65, 127, 200] {
            var hash = SHA256()
            for start in stride(from: 0, to: bytes.count, by: size) {
                hash.update(bytes[start..<min(start + size, bytes.count)].span)
            }
            #expect(hash.finalize() == whole, "in pieces of \(size)")
        }
    }
}
