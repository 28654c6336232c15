// What the simulation knows about one request: the client's side of it.

import Scheduling

/// One accepted request as its client sees it. A class: it is looked at many times per step.
final class Track {
    // What is looked at all the time, outside the big value, which costs ten references to copy.
    let id: RequestID
    let salt: UInt64
    let deadline: Duration?
    let promptCount: Int
    let maxNewTokens: Int
    let stopTokens: [TokenID]
    let stepsPerRead: Int
    let brokenSample: Int?
    let forcedTokenCount: Int
    let wrongForced: UInt64
    /// Whether it may no longer lose its blocks, then its place in the order of service.
    var order: (unprotected: Int, urgency: Int, number: Int)
    private var oracle: Oracle
    /// What it generates, as far as anybody has asked.
    private var text: [TokenID] = []
    var tokens = 0
    var slot: Int?
    var preemptions = 0
    /// Steps in flight that compute for it.
    var flights = 0
    /// Steps that sampled for it.
    var samples = 0
    /// Tokens after which it was said what follows.
    var forcedAt = -1
    /// Tokens that its client has not read.
    var unread = 0
    /// Move at which it is aborted.
    let abortMove: Int?
    var isAborted = false
    var isBroken = false
    var mustEnd = false
    var ending: FinishReason?

    /// The token that it should generate after `index` others.
    func expectedToken(_ index: Int) -> TokenID {
        while text.count <= index { text.append(oracle.next()) }
        return text[index]
    }

    init(
        client: Client, order: (unprotected: Int, urgency: Int, number: Int), abortMove: Int?, window: Int?,
        groups: LayerGroups?
    ) {
        self.order = order
        self.abortMove = abortMove
        let request = client.request
        id = request.id
        salt = request.cacheSalt
        deadline = request.deadline
        promptCount = request.prompt.count
        maxNewTokens = request.maxNewTokens
        stopTokens = request.stopTokens
        stepsPerRead = client.stepsPerRead
        brokenSample = client.brokenSample
        forcedTokenCount = client.forcedTokenCount
        wrongForced = UInt64(client.wrongForced)
        oracle = Oracle(
            prompt: request.prompt, salt: request.cacheSalt, seed: request.sampling.seed, window: window,
            groups: groups)
    }

}

/// Why a seed failed, and where.
struct SimulationFailure: Error, CustomStringConvertible {
    let seed: UInt64
    let step: Int
    let isOverlapped: Bool
    let message: String
    /// One line for each step, when the run kept them.
    var trace: [String] = []

    var description: String {
        let place = "seed \(seed), step \(step)\(isOverlapped ? ", overlapped" : "")"
        return (trace.suffix(40) + ["\(place): \(message)", "replay: make simulate SEED=\(seed)"])
            .joined(separator: "\n")
    }
}

/// Folds everything that happens into one number: equal seeds must give equal numbers.
struct TraceHash {
    private(set) var value: UInt64 = 0

    mutating func combine(_ number: Int) { value = mix(value ^ UInt64(bitPattern: Int64(number))) }
}
