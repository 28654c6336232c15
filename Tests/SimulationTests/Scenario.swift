// What a seed stands for: limits, clients, and what goes wrong for whom and when.
//
// Nothing is left to chance afterwards, so a client can be taken out of a failing scenario and the others do what they
// did before. Each seed switches on a random half of the features: what is rare in a world that has everything gets
// worlds of its own.

import Scheduling

/// One request and the life of whoever sent it.
struct Client {
    var request: GenerationRequest
    /// Moves between its arrival and its abort; nil never aborts. Moves come before, during and after each step.
    var abortMove: Int?
    /// The sample, counted from 0, whose logits are not finite.
    var brokenSample: Int?
    /// Steps that it takes to read one token; 0 reads at once. Who falls behind by too much is aborted.
    var stepsPerRead = 0
    /// The prompt rate that the scheduler is told; 0 is unknown.
    var promptRate = 0.0

    /// Tokens that are said to be forced at a time, and how many of a hundred are said wrong.
    var forcedTokenCount = 0
    var wrongForced = 0

    /// Whether anything happens to it.
    var hasFate: Bool { abortMove != nil || brokenSample != nil || stepsPerRead > 0 }
}

/// What a world may have besides requests.
struct Features: OptionSet {
    let rawValue: Int

    static let caching = Features(rawValue: 1 << 0)
    static let order = Features(rawValue: 1 << 1)
    static let tenants = Features(rawValue: 1 << 2)
    static let deadlines = Features(rawValue: 1 << 3)
    static let aborts = Features(rawValue: 1 << 4)
    static let broken = Features(rawValue: 1 << 5)
    static let slowReaders = Features(rawValue: 1 << 6)
    static let weakHash = Features(rawValue: 1 << 7)
    static let speculation = Features(rawValue: 1 << 8)
    static let loops = Features(rawValue: 1 << 9)
    static let failingSteps = Features(rawValue: 1 << 10)
    static let attentionCost = Features(rawValue: 1 << 11)
    static let stopTokens = Features(rawValue: 1 << 12)
    static let tightPool = Features(rawValue: 1 << 13)
    static let forcedTexts = Features(rawValue: 1 << 14)
    /// Prompts that are broken before their sample.
    static let brokenPrompts = Features(rawValue: 1 << 15)
}

/// Makes a request wait for each token, as those with a grammar do. What is forced the simulation says itself.
private struct Anything: TokenConstraint {
    func makeSession() -> any TokenConstraintSession { preconditionFailure("the scheduler asks no session") }
}

/// Everything that a simulation is told before it starts.
struct Scenario {
    let limits: SchedulerLimits
    /// By arrival.
    var clients: [Client]
    /// Steps that cannot be executed.
    var failingSteps: Set<Int> = []
    /// Steps after which nothing goes wrong any more.
    let faultySteps: Int
    let features: Features

    init(seed: UInt64) throws(SchedulingError) {
        var random = SimulationRandom(seed: seed)
        var features = Features(rawValue: Int(random.next() & 0x3fff))
        if seed % 3 == 0 { features.insert(.forcedTexts) }
        // A failed step ends everything, so it must not be common.
        if random.chance(0.7) { features.remove(.failingSteps) }
        if random.chance(0.85) { features.insert(.caching) }
        if features.contains(.loops) { features.insert(.speculation) }
        let blockSize = random.pick([8, 8, 8, 8, 16, 16, 32, 64])
        let maxModelLength = random.int(2 * blockSize...max(2 * blockSize, min(8 * blockSize, 192)))
        let worst = (maxModelLength + blockSize - 1) / blockSize
        // Short prompts that grow long in a small pool: preemption all the time.
        let isTight = features.contains(.tightPool)
        let maxSequences = random.pick(isTight ? [4, 8, 16] : [1, 2, 3, 4, 8, 16])
        // Not a draw of `random`, so that what a seed stands for otherwise stays what it was.
        let windows = [nil, nil, 2, 5, blockSize, blockSize + 3, 2 * blockSize + 1]
        let window = windows[Int(mix(seed) % UInt64(windows.count))]
        let groups =
            mix(seed ^ 0x6772) % 2 == 0
            ? window.map { LayerGroups(windowedCount: 1 + Int(mix(seed ^ 0x6f75) % 3), window: $0) } : nil
        if groups != nil, mix(seed ^ 0x6272) % 4 == 0 {
            features.insert(.brokenPrompts)
            // Nobody may share what they wrote.
            features.remove(.caching)
        }
        let budget = random.pick([maxSequences, maxSequences + 3, blockSize + maxSequences, 4 * blockSize, 2048])
        // From "one request at a time" to "everything fits"; sometimes too small for some.
        let blockCount =
            isTight
            ? worst + random.int(0...worst)
            : max(1, random.pick([worst - 1, worst, worst + 2, 2 * worst, 4 * worst, 16 * worst]))
        let tokenBudget = max(maxSequences, budget)
        let worstOfAll = groups?.blocks(forEntries: worst, chunk: tokenBudget, blockSize: blockSize) ?? worst
        limits = try SchedulerLimits(
            blockSize: blockSize, blockCount: max(1, blockCount * worstOfAll / worst),
            maxSequences: maxSequences, tokenBudget: tokenBudget, maxModelLength: maxModelLength,
            enablePrefixCaching: features.contains(.caching),
            policy: features.contains(.tenants) ? .fair : features.contains(.order) ? .priority : .fcfs,
            longPrefillTokenThreshold: random.pick([0, 0, 0, 5, blockSize]),
            attentionScale: features.contains(.attentionCost) ? random.pick([3, 40]) : 0,
            watermark: random.pick([0, 0.01, 0.1]),
            priorityAgeing: random.pick([nil, .milliseconds(1), .milliseconds(20)]),
            maxPreemptions: random.pick([1, 2, 4]),
            speculation: features.contains(.speculation)
                ? SpeculationLimits(
                    draftTokenCount: random.pick([1, 3, 8]), patternSizes: 1...random.int(1...4), forcedTokenCount: 5)
                : .off,
            slidingWindow: groups == nil ? window : nil, layerGroups: groups)
        faultySteps = random.int(0...300)
        self.features = features
        clients = []
        clients = makeClients(random: &random)
        if features.contains(.failingSteps) { failingSteps = [random.int(1...60), random.int(1...200)] }
    }

    private func makeClients(random: inout SimulationRandom) -> [Client] {
        let isTight = features.contains(.tightPool)
        let longest = isTight ? limits.blockSize : limits.maxModelLength - 1
        // Nested: each prefix may extend an earlier one.
        var prefixes: [[TokenID]] = [[]]
        for _ in 0..<random.int(1...5) {
            prefixes.append(random.pick(prefixes) + random.tokens(random.int(1...max(1, longest / 2))))
        }
        let meanGap = random.pick(isTight ? [0.0, 0.5] : [0.0, 0.5, 3, 20])
        let abortChance = features.contains(.aborts) ? random.pick([0.1, 0.3, 1]) : 0
        let brokenChance = features.contains(.broken) ? random.pick([0.05, 0.5]) : 0
        var time = 0.0
        var made: [Client] = []
        for number in 0..<random.int(1...40) {
            time += random.chance(0.3) ? 0 : meanGap * Double.random(in: 0..<2, using: &random)
            var prompt = random.pick(prefixes) + random.tokens(random.int(0...max(1, longest / 4)))
            if let earlier = made.last, random.chance(0.2) { prompt = earlier.request.prompt }
            if isTight || !random.chance(0.02) { prompt = Array(prompt.prefix(longest)) }
            if prompt.isEmpty, !random.chance(0.02) { prompt = random.tokens(1) }
            let isForced = features.contains(.forcedTexts) && random.chance(0.5)
            var client = Client(
                request: request(
                    number, prompt: prompt, arrival: .milliseconds(Int64(time)), isForced: isForced, random: &random))
            if isForced {
                client.forcedTokenCount = random.pick([1, 4, 20])
                client.wrongForced = random.pick([0, 0, 10, 60])
            }
            if random.chance(abortChance) { client.abortMove = random.int(0...random.pick([3, 30, 300])) }
            if random.chance(brokenChance) { client.brokenSample = random.int(0...random.pick([1, 30])) }
            if features.contains(.brokenPrompts), number % 3 == 0 { client.brokenSample = 0 }
            if features.contains(.slowReaders), random.chance(0.2) { client.stepsPerRead = random.int(2...4) }
            if features.contains(.deadlines), random.chance(0.5) {
                client.promptRate = 500 * Double(limits.tokenBudget)
            }
            made.append(client)
        }
        return made
    }

    private func request(
        _ number: Int, prompt: [TokenID], arrival: Duration, isForced: Bool, random: inout SimulationRandom
    ) -> GenerationRequest {
        let isTight = features.contains(.tightPool)
        let hasStop = features.contains(.stopTokens) && random.chance(0.5)
        let hasTenants = features.contains(.tenants)
        return GenerationRequest(
            id: RequestID(UInt64(number)), prompt: prompt,
            maxNewTokens: random.pick(isTight ? [.max] : [1, 2, limits.blockSize, limits.maxModelLength / 2, .max]),
            stopTokens: hasStop ? random.tokens(random.int(1...2)) : [],
            sampling: SamplingParameters(
                temperature: 1,
                seed: (features.contains(.loops) && random.chance(0.7) ? Recurrence.firstLoopSeed : 0)
                    + UInt64(random.int(0...20))),
            priority: random.int(0...2), arrival: arrival, cacheSalt: hasTenants ? UInt64(random.int(0...2)) : 0,
            deadline: features.contains(.deadlines) && random.chance(0.3)
                ? arrival + .milliseconds(random.int(0...100)) : nil,
            constraint: isForced ? Anything() : nil,
            // One of them asks for most.
            tenant: hasTenants ? UInt64(max(0, random.int(-4...3))) : 0)
    }
}

extension Scenario: CustomStringConvertible {
    /// Short enough to think about, once a failing scenario is shrunk.
    var description: String {
        let lines = clients.map { client in
            let request = client.request
            var line = "\(request.id): at \(request.arrival), prompt \(request.prompt), \(request.maxNewTokens) new, "
            line += "seed \(request.sampling.seed), salt \(request.cacheSalt), tenant \(request.tenant)"
            line += ", priority \(request.priority), stops \(request.stopTokens)"
            if let deadline = request.deadline { line += ", deadline \(deadline)" }
            if let move = client.abortMove { line += ", aborts at move \(move)" }
            if let sample = client.brokenSample { line += ", breaks at sample \(sample)" }
            if client.stepsPerRead > 0 { line += ", reads every \(client.stepsPerRead) steps" }
            return line
        }
        let failing = failingSteps.isEmpty ? "" : ", steps \(failingSteps.sorted()) fail"
        return (["\(limits)\(features.contains(.weakHash) ? ", weak hash" : "")\(failing)"] + lines)
            .joined(separator: "\n")
    }
}
