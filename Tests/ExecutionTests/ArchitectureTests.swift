// Every architecture against the reference implementation, on a small random checkpoint of it.

import CPUBackend
import Execution
import Models
import Scheduling
import Tensors
import TestSupport
import Testing

/// The folders of Fixtures/checkpoints.
private let architectures = [
    "gemma2", "gemma3", "gpt-oss", "llama-linear", "llama-yarn", "llama3", "mistral", "mixtral", "phi3", "qwen2",
    "qwen3", "qwen3-moe", "smollm3",
]

struct ArchitectureTests {
    @Test(arguments: architectures)
    func `logits of a prompt longer than the window equal the reference's`(_ name: String) throws {
        let fixture = try FixtureCheckpoint(name)
        for (threads, precision) in [(1, ComputePrecision.float32), (2, .float32), (2, .auto)] {
            let backend = try CPUBackend(precision: precision, instructionSet: nil, threads: threads)
            let run = try FixtureRun(fixture.parts(backend))
            let logits = try run.logits(of: fixture.expected.prompt, chunks: [fixture.expected.prompt.count])
            for (row, expected) in zip(fixture.expected.rows, fixture.expected.logits) {
                let scale = expected.map(abs).max() ?? 1
                let worst = zip(logits[row], expected).map { abs($0 - $1) }.max() ?? .infinity
                let allowed: Float = precision == .float32 ? 2e-5 : 0.2
                #expect(worst < allowed * scale, "\(name), row \(row), \(threads) threads, \(precision)")
            }
        }
    }

    @Test(arguments: architectures)
    func `greedy tokens equal the reference's, one step at a time`(_ name: String) throws {
        let fixture = try FixtureCheckpoint(name)
        let backend = try CPUBackend(precision: .float32, instructionSet: nil, threads: 2)
        let run = try FixtureRun(fixture.parts(backend))
        var tokens = fixture.expected.prompt
        for expected in fixture.expected.greedy {
            let logits = try run.logits(
                of: tokens, chunks: [tokens.count], isFirst: tokens.count == fixture.expected.prompt.count)
            let best = logits[logits.count - 1].enumerated().max { $0.element < $1.element }
            #expect(best.map { TokenID($0.offset) } == expected)
            tokens.append(expected)
        }
    }

    @Test(arguments: architectures)
    func `chunks, threads and company change no bit`(_ name: String) throws {
        let fixture = try FixtureCheckpoint(name)
        let prompt = fixture.expected.prompt
        func run(_ precision: ComputePrecision, _ threads: Int) throws -> FixtureRun {
            let backend = try CPUBackend(precision: precision, instructionSet: nil, threads: threads)
            return try FixtureRun(fixture.parts(backend))
        }
        for precision in ComputePrecision.allCases {
            let whole = try run(precision, 1).logits(of: prompt, chunks: [prompt.count])
            for chunks in [[7, 1, 16, 1, 1, 14], Array(repeating: 1, count: 40), [31, 9]] {
                for threads in [1, 2] {
                    let parts = try run(precision, threads).logits(of: prompt, chunks: chunks)
                    #expect(parts.map { $0.map(\.bitPattern) } == whole.map { $0.map(\.bitPattern) }, "\(chunks)")
                }
            }
            // Three sequences at different places of the same prompt, in one step after another.
            let together = try run(precision, 2).logits(ofThree: prompt)
            for (first, row) in zip([0, 5, 11], together) {
                #expect(row.map(\.bitPattern) == whole[39 - first].map(\.bitPattern), "sequence from \(first)")
            }
        }
    }
}
