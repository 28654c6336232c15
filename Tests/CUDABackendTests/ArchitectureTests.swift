// Architectures on the emulated device: near the reference's logits, the same bits in any company.

import CUDABackend
import CUDAEmulator
import Scheduling
import Tensors
import TestSupport
import Testing

extension EmulatedDevice {
    @Suite(.serialized) struct ArchitectureTests {
        init() { cuda_emulator_reset() }

        @Test(arguments: [
            "gemma2", "gemma3", "gpt-oss", "llama-linear", "llama-yarn", "llama3", "mistral", "mixtral", "phi3",
            "qwen2",
            "qwen3", "qwen3-moe", "smollm3",
        ])
        func `logits are near the reference's, and chunks and company change no bit`(_ name: String) throws {
            let fixture = try FixtureCheckpoint(name)
            let prompt = fixture.expected.prompt
            let run = try FixtureRun(fixture.parts(EmulatedDevice.backend { $0.usesGraphs = false }))
            let whole = try run.logits(of: prompt, chunks: [prompt.count])
            for (row, expected) in zip(fixture.expected.rows, fixture.expected.logits) {
                let scale = expected.map(abs).max() ?? 1
                let worst = zip(whole[row], expected).map { abs($0 - $1) }.max() ?? .infinity
                // Activations and caches are bf16; rounded, near-equal logits of a router choose other experts.
                #expect(worst < (name == "gpt-oss" ? 0.12 : 0.08) * scale, "\(name), row \(row): \(worst / scale)")
            }
            for chunks in [[7, 1, 16, 1, 1, 14], [31, 9]] {
                let parts = try run.logits(of: prompt, chunks: chunks)
                #expect(parts.map { $0.map(\.bitPattern) } == whole.map { $0.map(\.bitPattern) }, "\(chunks)")
            }
            for (first, row) in zip([0, 5, 11], try run.logits(ofThree: prompt)) {
                #expect(row.map(\.bitPattern) == whole[39 - first].map(\.bitPattern), "sequence from \(first)")
            }
        }
    }
}
