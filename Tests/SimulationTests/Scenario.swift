// What a seed stands for: limits, requests, and how often things go wrong.

import Scheduling

/// Everything that a simulation is told before it starts.
struct Scenario {
    let limits: SchedulerLimits
    /// By arrival.
    let requests: [GenerationRequest]
    /// Chance per move that some request is aborted.
    let abortRate: Double
    /// Chance per sampling sequence and step that its logits are not finite.
    let nanRate: Double
    /// Steps after which nothing goes wrong any more.
    let faultySteps: Int
    /// Whether block keys collide all the time.
    let hasWeakHash: Bool

    init(seed: UInt64) throws(SchedulingError) {
        var random = SimulationRandom(seed: seed)
        let blockSize = random.pick([8, 8, 8, 16, 16, 32, 64, 128])
        let maxModelLength = random.int(2 * blockSize...max(2 * blockSize, min(10 * blockSize, 320)))
        let worst = (maxModelLength + blockSize - 1) / blockSize
        // Short prompts that grow long in a small pool: preemption all the time.
        let isTight = random.chance(0.25)
        let maxSequences = random.pick(isTight ? [4, 8, 16] : [1, 2, 3, 4, 8, 16])
        let budget = random.pick([maxSequences, maxSequences + 3, blockSize + maxSequences, 4 * blockSize, 2048])
        limits = try SchedulerLimits(
            blockSize: blockSize,
            // From "one request at a time" to "everything fits"; sometimes too small for some.
            blockCount: isTight
                ? worst + random.int(0...worst)
                : max(1, random.pick([worst - 1, worst, worst + 2, 2 * worst, 4 * worst, 16 * worst])),
            maxSequences: maxSequences, tokenBudget: max(maxSequences, budget), maxModelLength: maxModelLength,
            enablePrefixCaching: random.chance(0.85), policy: random.chance(0.7) ? .fcfs : .priority,
            longPrefillTokenThreshold: random.pick([0, 0, 0, 5, blockSize]),
            attentionScale: [0, 0, 3, 40][Int(seed % 4)],
            watermark: random.pick([0, 0.01, 0.1]))
        abortRate = random.pick([0, 0, 0.02, 0.05, 0.2])
        nanRate = random.pick([0, 0, 0.02, 0.2])
        faultySteps = random.int(0...500)
        hasWeakHash = random.chance(0.25)
        requests = Self.requests(limits: limits, isTight: isTight, random: &random)
    }

    private static func requests(
        limits: SchedulerLimits, isTight: Bool, random: inout SimulationRandom
    ) -> [GenerationRequest] {
        let longest = isTight ? limits.blockSize : limits.maxModelLength - 1
        // Nested: each prefix may extend an earlier one.
        var prefixes: [[TokenID]] = [[]]
        for _ in 0..<random.int(1...5) {
            prefixes.append(random.pick(prefixes) + random.tokens(random.int(1...max(1, longest / 2))))
        }
        let count = random.int(1...40)
        let meanGap = random.pick(isTight ? [0.0, 0.5] : [0.0, 0.5, 3, 20])
        let hasTenants = random.chance(0.2)
        let hasDeadlines = random.chance(0.15)
        var time = 0.0
        var made: [GenerationRequest] = []
        for number in 0..<count {
            time += random.chance(0.3) ? 0 : meanGap * Double.random(in: 0..<2, using: &random)
            var prompt = random.pick(prefixes) + random.tokens(random.int(0...max(1, longest / 4)))
            if let earlier = made.last, random.chance(0.2) { prompt = earlier.prompt }
            if isTight || !random.chance(0.02) { prompt = Array(prompt.prefix(longest)) }
            if prompt.isEmpty, !random.chance(0.02) { prompt = random.tokens(1) }
            let arrival = Duration.milliseconds(Int64(time))
            made.append(
                GenerationRequest(
                    id: RequestID(UInt64(number)), prompt: prompt,
                    maxNewTokens: random.pick(
                        isTight ? [.max] : [1, 2, limits.blockSize, limits.maxModelLength / 2, .max]),
                    stopTokens: isTight || random.chance(0.5) ? [] : random.tokens(random.int(1...2)),
                    sampling: SamplingParameters(temperature: 1, seed: UInt64(random.int(0...2))),
                    priority: random.int(0...2), arrival: arrival,
                    cacheSalt: hasTenants ? UInt64(random.int(0...2)) : 0,
                    deadline: hasDeadlines && random.chance(0.3)
                        ? arrival + .milliseconds(random.int(0...200)) : nil))
        }
        return made
    }
}
