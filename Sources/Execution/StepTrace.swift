// A recording of steps, for whoever wants to see where the time goes: what each was made of and when it was planned,
// executed and told. Nothing is kept, and no clock is read, while nobody records.

import Scheduling
import Synchronization

/// One step.
package struct TracedStep: Sendable {
    package let index: Int
    /// Since the engine started: when planning began, when the device was given the step, when its results were there,
    /// and when everybody had been told.
    package let planned: Duration
    package let begun: Duration
    package let collected: Duration
    package fileprivate(set) var told: Duration
    package let sequences: Int
    package let tokens: Int
    /// Tokens that were chosen; the others are of prompts.
    package let samples: Int
    package let preempted: Int
    /// After the step.
    package let running: Int
    package let waiting: Int
    package let kvUsage: Double
}

/// What was recorded.
package struct StepTrace: Sendable {
    package fileprivate(set) var steps: [TracedStep] = []
    /// Steps that came after as many as are kept.
    package fileprivate(set) var missed = 0
}

/// Records while it is asked to. Written by the engine thread.
final class StepTracer: Sendable {
    /// Steps of one recording at most; half an hour of a hundred steps a second.
    static let maxSteps = 200_000

    private let isOn = Atomic(false)
    private let state = Mutex<(trace: StepTrace, limit: Int)?>(nil)

    /// Whether steps are to be noted; cheap.
    var isRecording: Bool { isOn.load(ordering: .relaxed) }

    /// Begins a recording of `limit` steps at most; false where there is one.
    func begin(limit: Int) -> Bool {
        state.withLock { state in
            guard state == nil else { return false }
            state = (StepTrace(), min(limit, Self.maxSteps))
            isOn.store(true, ordering: .relaxed)
            return true
        }
    }

    /// Ends the recording; nil where there is none.
    func end() -> StepTrace? {
        isOn.store(false, ordering: .relaxed)
        return state.withLock { state in
            defer { state = nil }
            return state?.trace
        }
    }

    func note(_ step: TracedStep) {
        state.withLock { state in
            guard let recording = state else { return }
            if recording.trace.steps.count < recording.limit {
                state?.trace.steps.append(step)
            } else {
                state?.trace.missed += 1
            }
        }
    }

    /// Says when everybody had been told of the step noted last; nothing where that was one too many.
    func amendLast(told: Duration) {
        state.withLock { state in
            guard state?.trace.missed == 0, let last = state?.trace.steps.indices.last else { return }
            state?.trace.steps[last].told = told
        }
    }
}
