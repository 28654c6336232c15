// The files of a pull that several threads download: what is waiting, what is under way, what has arrived.

import Foundation
import Synchronization

/// One file to download.
struct HubJob: Sendable, Equatable {
    let file: HubFile
    let address: String
    /// Where what has arrived lies.
    let part: String
    /// What the file is called in errors.
    let what: String
}

/// Jobs between threads.
final class HubQueue: Sendable {
    private struct State {
        var waiting: [HubJob]
        var open: [HubJob] = []
        var arrived: [(HubJob, Result<Void, PullError>)] = []
        var isStopped = false
    }

    private let state: Mutex<State>

    init(_ jobs: [HubJob]) { state = Mutex(State(waiting: jobs.reversed())) }

    /// The next job, or nil when there is none or the pull has ended.
    func take() -> HubJob? {
        state.withLock { state in
            guard !state.isStopped, let job = state.waiting.popLast() else { return nil }
            state.open.append(job)
            return job
        }
    }

    func finish(_ job: HubJob, _ result: Result<Void, PullError>) {
        state.withLock { state in
            state.open.removeAll { $0 == job }
            state.arrived.append((job, result))
        }
    }

    func takeArrived() -> (HubJob, Result<Void, PullError>)? {
        state.withLock { $0.arrived.isEmpty ? nil : $0.arrived.removeFirst() }
    }

    var open: [HubJob] { state.withLock { $0.open } }
    var isStopped: Bool { state.withLock { $0.isStopped } }
    func stop() { state.withLock { $0.isStopped = true } }
}

/// A thread that downloads one job after another.
final class HubWorker: Sendable {
    private let queue: HubQueue
    private let transfer: HubTransfer
    /// The child's working folder.
    private let folder: String
    private let finished = DispatchSemaphore(value: 0)

    init(_ queue: HubQueue, _ transfer: HubTransfer, folder: String) {
        self.queue = queue
        self.transfer = transfer
        self.folder = folder
    }

    func start() {
        let thread = Thread { [self] in
            while let job = queue.take() { queue.finish(job, download(job)) }
            finished.signal()
        }
        thread.start()
    }

    func waitUntilFinished() { finished.wait() }

    private func download(_ job: HubJob) -> Result<Void, PullError> {
        do throws(PullError) {
            // A file that is whole needs no word with the hub.
            if FileIdentity.of(job.part)?.byteCount == Int64(job.file.byteCount) { return .success(()) }
            try fileSystem("create", folder) {
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            }
            try transfer.fetch(
                job.address, to: job.part, limit: job.file.byteCount, what: job.what, work: folder,
                isCancelled: { queue.isStopped })
            return .success(())
        } catch {
            return .failure(error)
        }
    }
}
