// Adjusted logits: the few rows that have biases, penalties or an allow-list are copied and changed on the device
// before a token is chosen from them; log-probabilities stay those of the row itself. Masks are read where they are.

import CUDAKernels
import Tensors

/// Device memory of adjusted rows and their lists; grows to the largest step that needed it.
struct AdjustmentScratch {
    /// [adjusted rows, vocab] f32
    var choices: DeviceBuffer?
    /// The lists, one kind after the other, and then the descriptions of the rows.
    var lists: DeviceBuffer?
    /// [masked rows, ⌈vocab / 32⌉] u32
    var masks: DeviceBuffer?
}

/// The lists of all adjusted rows of a step.
private struct AdjustmentLists {
    var biases: [cuda_token_bias] = []
    var counts: [cuda_token_count] = []
    var allowed: [Int32] = []
    /// Each with its lists as positions in the arrays above.
    var rows: [cuda_logit_adjustment] = []

    var byteCounts: (biases: Int, counts: Int, allowed: Int, rows: Int) {
        (
            biases.count * MemoryLayout<cuda_token_bias>.stride, counts.count * MemoryLayout<cuda_token_count>.stride,
            allowed.count * 4, rows.count * MemoryLayout<cuda_logit_adjustment>.stride
        )
    }

    mutating func append(_ adjustments: LogitAdjustments, logits: UInt) {
        let first = (biases.count, counts.count, allowed.count)
        // The kernel visits the tokens of a list at once, so each is named once: biases of one token add up here.
        var places: [Int32: Int] = [:]
        for bias in adjustments.biases {
            if let place = places[bias.token] {
                biases[place].bias += bias.bias
            } else {
                places[bias.token] = biases.count
                biases.append(cuda_token_bias(token: bias.token, bias: bias.bias))
            }
        }
        for count in adjustments.counts {
            counts.append(
                cuda_token_count(
                    token: count.token, generated: count.generated, is_in_prompt: count.isInPrompt ? 1 : 0))
        }
        allowed += adjustments.allowedTokens ?? []
        rows.append(
            cuda_logit_adjustment(
                logits: cuda_address(logits), output: 0, biases: cuda_address(first.0), counts: cuda_address(first.1),
                allowed: cuda_address(first.2), bias_count: Int32(biases.count - first.0),
                count_count: Int32(counts.count - first.1),
                allowed_count: adjustments.allowedTokens.map { Int32($0.count) } ?? -1,
                repetition_penalty: adjustments.repetitionPenalty,
                frequency_penalty: adjustments.frequencyPenalty, presence_penalty: adjustments.presencePenalty))
    }
}

extension CUDABackend {
    /// Adjusts the rows that ask for it. Returns, for each such row, where its adjusted logits lie.
    func adjust(_ rows: [SamplingRow], of logits: Tensor) throws(BackendError) -> [Int: cuda_address] {
        guard rows.contains(where: { $0.adjustments != nil }) else { return [:] }
        let rowBytes = logits.rowElementCount * 4
        var lists = AdjustmentLists()
        var choices: [Int: cuda_address] = [:]
        for (index, row) in rows.enumerated() {
            guard let adjustments = row.adjustments else { continue }
            choices[index] = cuda_address(lists.rows.count * rowBytes)
            lists.append(adjustments, logits: logits.address + UInt(index * rowBytes))
        }
        let output = try reserve(\.choices, byteCount: lists.rows.count * rowBytes, purpose: "adjusted logits")
        let bytes = lists.byteCounts
        let total = bytes.biases + bytes.counts + bytes.allowed + bytes.rows + 64
        let base = try reserve(\.lists, byteCount: total, purpose: "adjustments of logits")
        let counts = base + cuda_address(bytes.biases)
        let allowed = counts + cuda_address(bytes.counts)
        // The descriptions hold addresses and are read as such.
        let descriptions = (allowed + cuda_address(bytes.allowed) + 15) / 16 * 16
        for index in lists.rows.indices {
            lists.rows[index].output = output + cuda_address(index * rowBytes)
            lists.rows[index].biases =
                base + lists.rows[index].biases * cuda_address(MemoryLayout<cuda_token_bias>.stride)
            lists.rows[index].counts =
                counts + lists.rows[index].counts * cuda_address(MemoryLayout<cuda_token_count>.stride)
            lists.rows[index].allowed = allowed + lists.rows[index].allowed * 4
        }
        unsafe lists.biases.withUnsafeBytes { unsafe enqueue($0, to: UInt(base)) }
        unsafe lists.counts.withUnsafeBytes { unsafe enqueue($0, to: UInt(counts)) }
        unsafe lists.allowed.withUnsafeBytes { unsafe enqueue($0, to: UInt(allowed)) }
        unsafe lists.rows.withUnsafeBytes { unsafe enqueue($0, to: UInt(descriptions)) }
        let arguments = cuda_adjust_logits_arguments(
            rows: descriptions, row_count: Int32(lists.rows.count), vocab: Int32(logits.rowElementCount))
        unsafe launch(cuda_adjust_logits_launch, arguments, "adjusting logits")
        if let failure { throw failure }
        return choices.mapValues { output + $0 }
    }

    /// Copies the masks of the rows that have one to the device, one after another, and returns where they begin.
    func uploadMasks(_ rows: [SamplingRow], of logits: Tensor) throws(BackendError) -> cuda_address {
        sampler.masks.removeAll(keepingCapacity: true)
        for row in rows {
            guard let mask = row.mask else { continue }
            precondition(mask.count == (logits.rowElementCount + 31) / 32)
            sampler.masks += mask
        }
        if sampler.masks.isEmpty { return 0 }
        let base = try reserve(\.masks, byteCount: sampler.masks.count * 4, purpose: "masks of tokens")
        unsafe sampler.masks.withUnsafeBytes { unsafe enqueue($0, to: UInt(base)) }
        if let failure { throw failure }
        return base
    }

    /// At least `byteCount` bytes; the old buffer is given up when it is too small.
    private func reserve(
        _ buffer: WritableKeyPath<AdjustmentScratch, DeviceBuffer?>, byteCount: Int, purpose: String
    ) throws(BackendError) -> cuda_address {
        if let held = sampler.adjustments[keyPath: buffer], held.byteCount >= byteCount {
            return cuda_address(held.address)
        }
        // What still reads the old one is waited for by the driver's own release.
        let new = try device.allocate(byteCount: byteCount * 2, purpose: purpose)
        sampler.adjustments[keyPath: buffer] = new
        return cuda_address(new.address)
    }
}
