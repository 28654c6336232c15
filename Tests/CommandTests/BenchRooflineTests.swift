// `apus bench roofline`, `latency`, `throughput` and `startup`: the arithmetic of limits, what is written, and what the
// command lines take and refuse.

import ArgumentParser
import CPUBackend
import Foundation
import Testing
import apus

private let limits = MachineLimits(
    bandwidths: [(byteCount: 1 << 30, rate: 40e9), (byteCount: 1 << 20, rate: 200e9)],
    products: [.int8: 2e12, .f32: 0.5e12])

private func measurement(microseconds: Double, bytes: Int, operations: Int) -> KernelMeasurement {
    KernelMeasurement(
        name: "linear q4_1 down", shape: "tokens=1", microseconds: microseconds, bytes: bytes, operations: operations)
}

@Test func `bandwidth is that of the size that is next in ratio`() {
    #expect(limits.bandwidth(byteCount: 1) == 200e9)
    #expect(limits.bandwidth(byteCount: 16 << 20) == 200e9)
    #expect(limits.bandwidth(byteCount: 64 << 20) == 40e9)
    #expect(limits.bandwidth(byteCount: .max / 2) == 40e9)
    // Without bf16 products the f32 ones have to do them.
    #expect(limits.rate(.bf16) == 0.5e12)
}

@Test func `what binds an operation is the slower of reading and multiplying`() {
    let reading = OperationShare(
        measurement(microseconds: 50, bytes: 1_000_000, operations: 2_000_000), count: 30, product: .int8,
        bandwidth: 40e9, limits: limits)
    #expect(reading.isBoundByReading)
    #expect(abs(reading.limit - 30 * 25e-6) < 1e-12)
    #expect(abs(reading.seconds - 30 * 50e-6) < 1e-12)
    let multiplying = OperationShare(
        measurement(microseconds: 100, bytes: 1_000_000, operations: 160_000_000), count: 1, product: .int8,
        bandwidth: 40e9, limits: limits)
    #expect(!multiplying.isBoundByReading)
    #expect(abs(multiplying.limit - 80e-6) < 1e-12)
}

@Test func `the roofline's table says each share, the whole step's, and what is in no operation`() throws {
    let operation = OperationShare(
        measurement(microseconds: 50, bytes: 1_000_000, operations: 2_000_000), count: 30, product: .int8,
        bandwidth: 40e9, limits: limits)
    let report = RooflineReport(
        machine: "CPU", model: "m", limits: limits,
        steps: [StepShare(name: "1 decoding", workingSet: 1 << 30, operations: [operation], seconds: 3e-3)])
    #expect(
        report.text.contains("| linear q4_1 down | 30 | 1.500 | 20.0 | 40 | 0.750 (reading) | 50 % |"))
    #expect(report.text.contains("| **whole step on the engine** | | **3.000** | | | 0.750 | **25 %** |"))
    #expect(report.text.contains("Not in any operation: 50 % of the step. Bandwidth at 1024 MiB: 40.0 GB/s."))
    let decoded = try JSONSerialization.jsonObject(with: Data(report.json.line.utf8))
    let members = try #require(decoded as? [String: Any])
    let steps = try #require(members["steps"] as? [[String: Any]])
    #expect(steps[0]["limit_seconds"] as? Double == 0.00075)
    let products = try #require(members["operations_per_second"] as? [String: Any])
    #expect(products["bf16"] is NSNull && products["int8"] as? Double == 2e12)
}

@Test(arguments: [
    ["latency", "m.gguf", "--batch-size", "4", "--input-len", "8", "--num-iters", "3", "--output-json", "x.json"],
    ["latency", "--load-format", "dummy", "--model-shape", "smollm2-135m"],
    ["throughput", "m.gguf", "--num-prompts", "5", "--input-len", "8", "--output-len", "8", "--json"],
    ["throughput", "m.gguf", "--dataset-name", "custom", "--dataset-path", "x.jsonl"],
    ["startup", "m.gguf", "--num-iters-cold", "0", "--json", "--", "--threads", "1"],
    ["roofline", "m.gguf", "--batches", "1,8", "--prefill", "0", "--threads", "1"],
])
func `the measurements without a server take what vLLM's take`(arguments: [String]) throws {
    _ = try ApusCommand.parseAsRoot(["bench"] + arguments)
}

@Test(arguments: [
    ["latency"], ["latency", "m.gguf", "--batch-size", "0"], ["throughput", "m.gguf", "--num-prompts", "0"],
    ["startup", "m.gguf", "--num-iters-cold", "0", "--num-iters-warm", "0"], ["startup"],
    ["roofline", "m.gguf", "--batches", "1,x"], ["roofline", "m.gguf", "--seconds", "0"],
    [
        "throughput", "--load-format", "dummy", "--model-shape", "smollm2-135m", "--dataset-name", "custom",
        "--dataset-path", "x",
    ],
])
func `the measurements without a server refuse what they cannot do`(arguments: [String]) {
    #expect(throws: (any Error).self) { try ApusCommand.parseAsRoot(["bench"] + arguments) }
}
