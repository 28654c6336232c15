// What is done to the logits of one step's rows, as the kernel reads it: flat lists and ranges into them.

import CPUKernels
import Tensors

/// The adjustments of all rows that have any.
struct AdjustmentLists {
    private var rows: [cpu_logit_adjustment] = []
    private var biases: [cpu_token_bias] = []
    private var counts: [cpu_token_count] = []
    private var allowed: [Int32] = []
    /// [masks, words of a mask]
    private var masks: [UInt32] = []
    private var maskCount: Int64 = 0

    /// Adds those of one row and returns its place.
    mutating func append(_ row: LogitAdjustments) -> Int64 {
        rows.append(
            cpu_logit_adjustment(
                first_bias: Int64(biases.count), bias_count: Int64(row.biases.count),
                first_count: Int64(counts.count), count_count: Int64(row.counts.count),
                first_allowed: Int64(allowed.count), allowed_count: Int64(row.allowedTokens?.count ?? -1),
                presence_penalty: row.presencePenalty, frequency_penalty: row.frequencyPenalty,
                repetition_penalty: row.repetitionPenalty))
        for bias in row.biases { biases.append(cpu_token_bias(token: bias.token, bias: bias.bias)) }
        for count in row.counts {
            counts.append(
                cpu_token_count(
                    token: count.token, generated: count.generated, is_in_prompt: count.isInPrompt ? 1 : 0))
        }
        allowed += row.allowedTokens ?? []
        return Int64(rows.count - 1)
    }

    /// Adds the mask of one row and returns its place.
    mutating func append(mask: [UInt32]) -> Int64 {
        masks += mask
        maskCount += 1
        return maskCount - 1
    }

    var isEmpty: Bool { rows.isEmpty && maskCount == 0 }

    mutating func removeAll() {
        rows.removeAll(keepingCapacity: true)
        biases.removeAll(keepingCapacity: true)
        counts.removeAll(keepingCapacity: true)
        allowed.removeAll(keepingCapacity: true)
        masks.removeAll(keepingCapacity: true)
        maskCount = 0
    }

    /// Calls `body` with the lists; nil when there is nothing in them.
    func withPointer(_ body: (UnsafePointer<cpu_logit_adjustments>?) -> Bool) -> Bool {
        if isEmpty { return body(nil) }
        return unsafe rows.withUnsafeBufferPointer { rows in
            unsafe biases.withUnsafeBufferPointer { biases in
                unsafe counts.withUnsafeBufferPointer { counts in
                    unsafe allowed.withUnsafeBufferPointer { allowed in
                        unsafe masks.withUnsafeBufferPointer { masks in
                            var lists = unsafe cpu_logit_adjustments(
                                rows: rows.baseAddress, biases: biases.baseAddress, counts: counts.baseAddress,
                                allowed: allowed.baseAddress, masks: masks.baseAddress)
                            return unsafe body(&lists)
                        }
                    }
                }
            }
        }
    }
}
