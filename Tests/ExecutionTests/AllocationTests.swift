// What a step allocates on the engine thread. Memory that is taken and given back a hundred times a second is where
// latencies of a server grow tails, so the count is written down and may only fall.

import AllocationCounter
import CPUBackend
import Checkpoints
import Execution
import Models
import Scheduling
import Synchronization
import Tensors
import TestSupport
import Testing

/// A model that notes, whenever it is run, what its thread has allocated so far.
private final class CountingModel: LanguageModel {
    var adapters: AdapterBank? { model.adapters }
    private let model: any LanguageModel
    private let counts: AllocationCounts

    init(_ model: any LanguageModel, _ counts: AllocationCounts) {
        self.model = model
        self.counts = counts
    }

    var dimensions: ModelDimensions { model.dimensions }
    var logits: Tensor { model.logits }
    var hidden: Tensor { model.hidden }
    var sampledHidden: Tensor { model.sampledHidden }
    var outputNorm: OutputNorm { model.outputNorm }
    var weightBytes: Int { model.weightBytes }
    var activationBytes: Int { model.activationBytes }

    func forward(_ step: ForwardStep, cache: [KVLayer], backend: any Backend) {
        let start = allocations_of_this_thread()
        model.forward(step, cache: cache, backend: backend)
        let end = allocations_of_this_thread()
        counts.note(tokens: step.batch.tokenCount, start: start, end: end)
    }
}

/// The notes, for the test's own thread.
private final class AllocationCounts: Sendable {
    struct Step {
        let tokens: Int
        let start: UInt64
        let end: UInt64
    }

    private let steps = Mutex<[Step]>([])

    init() { steps.withLock { $0.reserveCapacity(1000) } }

    func note(tokens: Int, start: UInt64, end: UInt64) {
        steps.withLock { $0.append(Step(tokens: tokens, start: start, end: end)) }
    }

    var all: [Step] { steps.withLock { $0 } }
}

/// Takes events as a server's event loops do, and counts them.
private final class Listener: EventReceiver {
    let tokens = Atomic(0)
    private let finished = Atomic(0)
    private let expected: Int
    private let done: AsyncStream<Void>.Continuation

    init(expecting expected: Int, done: AsyncStream<Void>.Continuation) {
        self.expected = expected
        self.done = done
    }

    func receive(_ event: EngineEvent, index: Int) {
        switch event {
        case .token: tokens.add(1, ordering: .relaxed)
        case .finished, .failed:
            if finished.add(1, ordering: .relaxed).newValue == expected { done.finish() }
        case .promptScores, .pooled: break
        }
    }

    func finishDelivery() {}
}

@Suite(.enabled(if: counts_allocations())) struct AllocationTests {
    /// The median of the allocations between two forward passes, and of those within one, of decoding steps.
    private func allocations(sequences: Int) async throws -> (around: Int, forward: Int) {
        let counts = AllocationCounts()
        var configuration = EngineConfiguration(availableMemoryBytes: 4 << 30, cacheKey: (1, 2))
        configuration.maxModelLength = 256
        let engine = try await Engine.start(configuration) { [configuration] in
            let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: 2)
            let shape = try #require(ModelShape.named("smollm2-135m"))
            let model = try Registry.load(
                shape.config, weights: WeightReader(SyntheticCheckpoint(shape, dtype: .q4_0)),
                capacity: StepCapacity(configuration, backend: backend), backend: backend)
            return EngineParts(backend: backend, model: CountingModel(model, counts))
        }
        let requests = (0..<sequences).map { index in
            GenerationRequest(
                id: engine.makeRequestID(), prompt: [1, 2, TokenID(index)], maxNewTokens: 48, arrival: engine.now)
        }
        let (ended, done) = AsyncStream.makeStream(of: Void.self)
        let listener = Listener(expecting: sequences, done: done)
        // Delivered on the engine thread: what a server's loops do with the events is not the engine's to count, and
        // these do nothing with them.
        let queue = EventQueue { $0.deliver() }
        let reservation = try engine.reserve(requests: sequences, promptTokenEstimate: 3)
        try engine.submit(requests, reservation: reservation, to: listener, by: queue)
        for await _ in ended {}
        await engine.drain(timeout: .zero)
        #expect(listener.tokens.load(ordering: .relaxed) == 48 * sequences)
        let steps = counts.all
        let pairs = zip(steps, steps.dropFirst()).filter { $0.tokens == sequences && $1.tokens == sequences }
        try #require(pairs.count >= 30)
        func median(_ values: [UInt64]) -> Int { Int(values.sorted()[values.count / 2]) }
        return (median(pairs.map { $1.start - $0.end }), median(pairs.map { $0.0.end - $0.0.start }))
    }

    @Test func `the counter counts`() {
        let start = allocations_of_this_thread()
        let arrays = (1...100).map { Array(repeating: $0, count: 1000 + $0) }
        #expect(allocations_of_this_thread() - start >= UInt64(arrays.count))
    }

    @Test(arguments: [1, 16]) func `a decoding step allocates nothing`(sequences: Int) async throws {
        let (around, forward) = try await allocations(sequences: sequences)
        #expect(forward == 0)
        #expect(around == 0)
    }
}
