// What happens during a pull, and how it is told: to a person at a terminal, to a log, or to a program.

/// A moment of a pull.
package enum PullEvent: Sendable, Equatable {
    /// The file is there and verified already.
    case present(path: String)
    /// Another process pulls the same model.
    case waiting(folder: String)
    /// `received` of about `total` bytes have arrived, `elapsed` since the download began.
    case downloading(file: String, received: Int, total: Int, elapsed: Duration)
    /// `written` of `total` bytes have been unpacked and hashed.
    case verifying(file: String, written: Int, total: Int, elapsed: Duration)
    /// The file is in its place and is what the catalog promises.
    case finished(path: String, sha256: String, elapsed: Duration)
}

/// Turns events into text.
package struct PullReport {
    package enum Style: Sendable {
        /// A bar that is redrawn in place.
        case terminal
        /// A line now and then.
        case plain
        /// A JSON object per line.
        case json
    }

    private let style: Style
    private let write: (String) -> Void
    /// The progress that was told last.
    private var last: (title: String, elapsed: Duration, isLast: Bool)?
    private var isBarOpen = false

    /// - Parameter write: given text to be written as it is, line ends included.
    package init(style: Style, write: @escaping (String) -> Void) {
        self.style = style
        self.write = write
    }

    package mutating func tell(_ event: PullEvent) {
        switch event {
        case .present(let path): line("\(path) is there and verified.", event)
        case .waiting(let folder): line("Another process is pulling into \(folder); waiting for it.", event)
        case .downloading(let file, let received, let total, let elapsed):
            guard isDue("Downloading \(file)", elapsed, isLast: received >= total) else { return }
            progress("Downloading \(file)", min(received, total), total, elapsed, event)
        case .verifying(let file, let written, let total, let elapsed):
            guard isDue("Verifying \(file)", elapsed, isLast: written >= total) else { return }
            progress("Verifying \(file)", written, total, elapsed, event)
        case .finished(let path, let sha256, let elapsed):
            line("\(path) is in place after \(seconds(elapsed)) s, SHA-256 \(sha256).", event)
        }
    }

    /// Ends a bar that is being drawn, so that what follows starts on a line of its own.
    package mutating func end() {
        if isBarOpen { write("\n") }
        isBarOpen = false
    }

    private mutating func line(_ text: String, _ event: PullEvent) {
        end()
        write((style == .json ? event.json.line : text) + "\n")
    }

    /// Whether it is time for another word about what `title` says is being done.
    private mutating func isDue(_ title: String, _ elapsed: Duration, isLast: Bool) -> Bool {
        let interval: Duration =
            switch style {
            case .terminal: .milliseconds(100)
            case .plain: .seconds(5)
            case .json: .seconds(1)
            }
        if let last, last.title == title, elapsed - last.elapsed < interval, !isLast || last.isLast { return false }
        if let last, last.title != title { end() }
        last = (title, elapsed, isLast)
        return true
    }

    private mutating func progress(
        _ title: String, _ done: Int, _ total: Int, _ elapsed: Duration, _ event: PullEvent
    ) {
        switch style {
        case .terminal:
            // Return to the margin, write, clear what an earlier and longer line left.
            write("\r" + bar(title, done, total, elapsed) + "\u{1B}[K")
            isBarOpen = true
        case .plain: write("\(title): \(figures(done, total, elapsed))\n")
        case .json: write(event.json.line + "\n")
        }
    }

    private func bar(_ title: String, _ done: Int, _ total: Int, _ elapsed: Duration) -> String {
        let width = 24
        let filled = total > 0 ? Int(Double(width) * min(1, Double(done) / Double(total))) : 0
        let cells = String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
        return "\(title) \(cells) \(figures(done, total, elapsed))"
    }

    /// "45% of 92.9 MB, 12.3 MB/s, 4 s left"
    private func figures(_ done: Int, _ total: Int, _ elapsed: Duration) -> String {
        let percent = total > 0 ? Int(100 * Double(done) / Double(total)) : 0
        var text = "\(percent)% of \(megabytes(Double(total))) MB"
        let time = elapsed / .seconds(1)
        if done > 0, time > 0.5 {
            let rate = Double(done) / time
            text += ", \(megabytes(rate)) MB/s"
            if done < total { text += ", \(Int((Double(total - done) / rate).rounded(.up))) s left" }
        }
        return text
    }

    private func megabytes(_ bytes: Double) -> String { tenths(bytes / 1e6) }
    private func seconds(_ duration: Duration) -> String { tenths(duration / .seconds(1)) }

    /// With one decimal.
    private func tenths(_ value: Double) -> String {
        let rounded = Int((value * 10).rounded())
        return "\(rounded / 10).\(rounded % 10)"
    }
}

extension PullEvent {
    /// The event as an object with a member `event`.
    var json: JSONText {
        switch self {
        case .present(let path): .object([("event", .string("present")), ("path", .string(path))])
        case .waiting(let folder): .object([("event", .string("waiting")), ("folder", .string(folder))])
        case .downloading(let file, let received, let total, let elapsed):
            Self.progress("downloading", file, received, total, elapsed)
        case .verifying(let file, let written, let total, let elapsed):
            Self.progress("verifying", file, written, total, elapsed)
        case .finished(let path, let sha256, let elapsed):
            .object([
                ("event", .string("finished")), ("path", .string(path)), ("sha256", .string(sha256)),
                ("seconds", .decimal(elapsed / .seconds(1), places: 3)),
            ])
        }
    }

    private static func progress(
        _ event: String, _ file: String, _ done: Int, _ total: Int, _ elapsed: Duration
    ) -> JSONText {
        .object([
            ("event", .string(event)), ("file", .string(file)), ("bytes", .integer(done)), ("total", .integer(total)),
            ("seconds", .decimal(elapsed / .seconds(1), places: 3)),
        ])
    }
}
