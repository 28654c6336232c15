// `apus bench`: what its flags accept and refuse, and that every operation is measured in lines a script can read.

import ArgumentParser
import CPUBackend
import Checkpoints
import Foundation
import Tensors
import Testing
import apus

/// What the parser says of a command line it refuses.
private func refusal(_ arguments: [String]) -> String? {
    do {
        _ = try ApusCommand.parseAsRoot(arguments)
        return nil
    } catch {
        #expect(ApusCommand.exitCode(for: error).rawValue == ExitStatus.usage.rawValue)
        return ApusCommand.message(for: error)
    }
}

@Test(arguments: [
    ["bench", "smollm2"], ["bench", "--device", "cpu", "smollm2", "--workloads", "single,decode-16", "--json"],
    ["bench", "engine", "model.gguf", "--repeats", "1"],
    [
        "bench", "--device", "cuda:1", "--load-format", "dummy", "--model-shape", "llama-3.1-8b", "--workloads",
        "decode-1,decode-16,decode-64,decode-256", "--repeats", "3", "--json",
    ],
    ["bench", "engine", "--load-format", "dummy", "--model-shape", "smollm2-135m", "--weights", "q4_0"],
    ["bench", "kernels"], ["bench", "kernels", "--device", "cuda", "--json"],
    ["bench", "kernels", "--shapes", "small", "--filter", "linear", "--seconds", "0.5"],
])
func `bench takes a model or a shape, and kernels neither`(arguments: [String]) {
    #expect(refusal(arguments) == nil)
}

@Test(arguments: [
    (
        ["bench", "--load-format", "dummy", "--model-shape", "llama-9"],
        "--model-shape is 'llama-9', which is not one of llama-3.1-8b, llama-3.2-1b, smollm2-135m."
    ),
    (
        ["bench", "--load-format", "dummy", "--model-shape", "smollm2-135m", "--weights", "q2"],
        "--weights is 'q2', which is not one of bf16, q8_0, q4_0."
    ),
    (
        ["bench"],
        "Give a MODEL, or --load-format dummy with --model-shape (one of llama-3.1-8b, llama-3.2-1b, smollm2-135m)."
    ),
    (
        ["bench", "--load-format", "dummy"],
        "--load-format dummy needs --model-shape, one of llama-3.1-8b, llama-3.2-1b, smollm2-135m."
    ),
    (
        ["bench", "m.gguf", "--load-format", "dummy", "--model-shape", "smollm2-135m"],
        "--load-format dummy reads no model; leave 'm.gguf' out."
    ),
    (
        ["bench", "m.gguf", "--weights", "bf16"],
        "--model-shape and --weights describe random weights; give --load-format dummy too."
    ),
    (["bench", "kernels", "--shapes", "large"], "--shapes is 'large', which is not one of small, llama."),
    (["bench", "kernels", "--seconds", "0"], "--seconds is 0.0 but must be above 0, up to 60."),
])
func `bench refuses what does not fit with a sentence`(arguments: [String], sentence: String) {
    #expect(refusal(arguments) == sentence)
}

@Test func `a workload that is not one is refused, and batches only run when named`() throws {
    let message = try #require(refusal(["bench", "m.gguf", "--workloads", "c8,decode-3"]))
    #expect(message.hasPrefix("--workloads names 'decode-3', which is not one of single, c8,"))
    #expect(message.hasSuffix("decode-1, decode-16, decode-64, decode-256."))
}

@Test func `every operation is measured, in lines of JSON with all that Tests-gpu reads`() throws {
    let backend = try CPUBackend(precision: .auto, instructionSet: nil, threads: 1)
    let bench = KernelBench(
        backend, stopwatch: Stopwatch(hostClockFor: backend), shapes: .small, filter: nil, seconds: 0.001,
        coldBytes: 1)
    var names: Set<String> = []
    var problems: [String] = []
    try bench.run { measurement in
        names.insert(String(measurement.name.prefix { $0 != " " }))
        let decoded = try JSONSerialization.jsonObject(with: Data(measurement.json.line.utf8))
        let members = try #require(decoded as? [String: Any])
        #expect(Set(members.keys) == ["name", "shape", "microseconds", "bytes", "flops"])
        #expect(try #require(members["microseconds"] as? Double) > 0)
        #expect(try #require(members["bytes"] as? Int) > 0)
        let flops = try #require(members["flops"] as? Int)
        #expect((flops > 0) == (measurement.name.hasPrefix("linear") || measurement.name.hasPrefix("attend")))
        for word in measurement.shape.split(separator: " ") { #expect(word.wholeMatch(of: /[a-z_]+=[0-9]+/) != nil) }
    } progress: { line, isProgress in
        if !isProgress { problems.append(line) }
    }
    #expect(problems.isEmpty)
    #expect(names == ["linear", "embed", "attend", "rotate", "store_kv", "rms_norm", "gate", "sample"])
}

@Test func `the shapes for a GPU are those of the peers, and none is measured twice`() {
    let cases = KernelShapes.llama.cases
    let labels = cases.map { "\($0.name) \($0.shape)" }
    #expect(labels.contains("linear bf16 down tokens=16 rows=4096 columns=14336"))
    #expect(labels.contains("linear q4_1 head tokens=256 rows=128256 columns=2048"))
    #expect(
        labels.contains("attend decode sequences=64 query=1 context=1024 heads=32 kv_heads=8 head_dim=128"))
    #expect(
        labels.contains("attend prefill sequences=1 query=8192 context=8192 heads=32 kv_heads=8 head_dim=64"))
    #expect(labels.contains("sample greedy rows=64 columns=128256"))
    #expect(Set(labels).count == labels.count)
}
