// Sampling: rows of parameters go up, one kernel chooses, one copy brings the results back.
//
// The chosen tokens also stay on the device, where the next step's embedding finds them, so that planning and
// launching the next step need not wait. Other ranks than the first choose nothing: they gather what it chose.

import CUDADriver
import CUDAKernels
import Tensors

/// Buffers of sampling and the results on their way to the host, oldest first.
@safe
struct Sampler {
    /// Rows of one step.
    static let maxRows = 4096
    /// Steps whose results may be outstanding.
    static let depth = 2

    /// Results of one step on the host, and when they are there.
    struct Slot {
        let results: PinnedMemory.Owner
        let isDone: Event.Owner
        var rowCount = 0
    }

    let parameters: DeviceBuffer
    /// The masks of the latest step's rows, in memory that is kept.
    var masks: [UInt32] = []
    var adjustments = AdjustmentScratch()
    let results: DeviceBuffer
    /// What the latest step's rows chose, with room behind it for what other ranks bring when the first tells them.
    let samples: DeviceBuffer
    /// The parameters of the latest step's rows, in memory that is kept.
    var rows: [cuda_sampling_row] = []
    /// [depth] used in turn.
    var slots: [Slot] = []
    /// Slots that hold results not yet collected; the oldest is `(next − pending) mod depth`.
    var pending = 0
    var next = 0

    var samplesAddress: cuda_address { cuda_address(samples.address) }

    init(device: Device) throws(BackendError) {
        let resultBytes = Self.maxRows * MemoryLayout<cuda_sampling_result>.stride
        parameters = try device.allocate(
            byteCount: Self.maxRows * MemoryLayout<cuda_sampling_row>.stride, purpose: "sampling parameters")
        results = try device.allocate(byteCount: resultBytes, purpose: "sampling results")
        samples = try device.allocate(
            byteCount: Int(CUDA_MOST_RANKS) * Self.maxRows * 4, purpose: "sampled tokens")
        for _ in 0..<Self.depth {
            slots.append(
                Slot(
                    results: PinnedMemory.Owner(try PinnedMemory(byteCount: resultBytes, device: device)),
                    isDone: Event.Owner(try Event(device: device))))
        }
    }
}

extension CUDABackend {
    package func sample(_ logits: Tensor, _ rows: [SamplingRow]) {
        precondition(rows.count <= logits.rowCount && rows.count <= Sampler.maxRows && logits.dtype == .f32)
        precondition(sampler.pending < Sampler.depth, "results must be collected before more are asked for")
        let chosenCount = rank == nil || rank?.shard.rank == 0 ? rows.count : 0
        attempt { () throws(BackendError) in if chosenCount > 0 { try choose(rows, of: logits) } }
        // The others wait for it.
        if !rows.isEmpty { rank?.tellSamples(rows.count) }
        attempt { () throws(BackendError) in
            let slot = sampler.slots[sampler.next]
            // A step that samples nothing ends with an event like every other.
            if chosenCount > 0 {
                let result = unsafe device.driver.calls.copy_to_host(
                    slot.results.memory.bytes.baseAddress, cuda_pointer(sampler.results.address),
                    chosenCount * MemoryLayout<cuda_sampling_result>.stride, stream.handle)
                try device.driver.check(result, "reading samples")
            }
            try slot.isDone.event.record(stream)
        }
        sampler.slots[sampler.next].rowCount = chosenCount
        sampler.next = (sampler.next + 1) % Sampler.depth
        sampler.pending += 1
    }

    private func choose(_ rows: [SamplingRow], of logits: Tensor) throws(BackendError) {
        if chooseByRanks(rows, vocab: logits.rowElementCount) { return }
        try uploadSamplingRows(rows, of: logits)
        let arguments = cuda_sample_arguments(
            logits: cuda_address(logits.address), rows: cuda_address(sampler.parameters.address),
            results: cuda_address(sampler.results.address), samples: sampler.samplesAddress,
            row_count: Int32(rows.count), vocab: Int32(logits.rowElementCount))
        unsafe launch(cuda_sample_launch, arguments, "sample")
    }

    /// Where `embed` looks up what the latest step chose.
    var knownSamplesAddress: cuda_address { rank?.samplesAddress ?? sampler.samplesAddress }

    package func collect(into results: inout SamplingResults) throws(BackendError) {
        precondition(sampler.pending > 0, "there is nothing to collect")
        let index = (sampler.next + Sampler.depth - sampler.pending) % Sampler.depth
        sampler.pending -= 1
        let slot = sampler.slots[index]
        attempt { () throws(BackendError) in try slot.isDone.event.wait("a step") }
        if let failure { throw failure }
        precondition(slot.rowCount <= results.tokens.count)
        let rows = unsafe slot.results.memory.bytes.bindMemory(to: cuda_sampling_result.self)
        for row in 0..<slot.rowCount {
            let chosen = unsafe rows[row]
            results.tokens[row] = chosen.token
            results.logprobs[row] = chosen.logprob
            results.isFinite[row] = chosen.is_finite != 0
            // Not counted here; see `SamplingResults.ranks`.
            results.ranks[row] = 0
            let first = row * SamplingResults.maxAlternatives
            unsafe withUnsafeBytes(of: chosen.alternative_tokens) { source in
                for index in 0..<SamplingResults.maxAlternatives {
                    results.alternativeTokens[first + index] = unsafe source.load(
                        fromByteOffset: 4 * index, as: Int32.self)
                }
            }
            unsafe withUnsafeBytes(of: chosen.alternative_logprobs) { source in
                for index in 0..<SamplingResults.maxAlternatives {
                    results.alternativeLogprobs[first + index] = unsafe source.load(
                        fromByteOffset: 4 * index, as: Float.self)
                }
            }
        }
    }

    private func uploadSamplingRows(_ rows: [SamplingRow], of logits: Tensor) throws(BackendError) {
        sampler.rows.removeAll(keepingCapacity: true)
        let choices = try adjust(rows, of: logits)
        let masks = try uploadMasks(rows, of: logits)
        let maskBytes = cuda_address((logits.rowElementCount + 31) / 32 * 4)
        var maskCount: cuda_address = 0
        for (index, row) in rows.enumerated() {
            var mask: cuda_address = 0
            if row.mask != nil {
                mask = masks + maskCount * maskBytes
                maskCount += 1
            }
            sampler.rows.append(
                cuda_sampling_row(
                    temperature: row.temperature, top_p: row.topP, min_p: row.minP, top_k: Int32(clamping: row.topK),
                    alternatives: Int32(clamping: row.logprobCount ?? -1), scored_token: row.scoredToken ?? -1,
                    seed: row.seed, position: row.position, mask: mask, choice: choices[index] ?? 0))
        }
        unsafe sampler.rows.withUnsafeBytes { unsafe enqueue($0, to: sampler.parameters.address) }
        if let failure { throw failure }
    }
}

extension PinnedMemory {
    /// Pinned memory in an array, which holds copyable elements only.
    final class Owner {
        let memory: PinnedMemory
        init(_ memory: consuming PinnedMemory) { self.memory = memory }
    }
}
