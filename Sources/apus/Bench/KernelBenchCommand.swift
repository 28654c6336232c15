// `apus bench kernels`: how long each operation of the device takes, in the shapes of known models and without a model.

import ArgumentParser
import Foundation
import Tensors

struct KernelBenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kernels", abstract: "Measure every operation of the device, in the shapes of known models.",
        discussion: """
            Needs no model. Streamed weights and caches are taken in turn from copies that together exceed the \
            last-level cache of a GPU. On a GPU its own clock is read, and launches are not in the time; sampling is \
            timed with its parameters' upload and its results' read-back.
            """)

    @Option(
        help: ArgumentHelp(
            "Shapes of Llama-3.1-8B and 3.2-1B, or of SmolLM2-135M. (default: llama on a GPU, small on the CPU)",
            valueName: KernelShapes.allCases.map(\.rawValue).joined(separator: "|")))
    var shapes: String?
    @Option(help: "Only operations whose name and shape contain this text.") var filter: String?
    @Option(help: "Seconds to measure each operation for.") var seconds = 0.1
    @Flag(help: "Print one JSON object per operation instead of a table.") var json = false
    @OptionGroup(title: "Compute") var computeOptions: ComputeOptions

    func validate() throws {
        if let shapes, KernelShapes(rawValue: shapes) == nil {
            let known = KernelShapes.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("--shapes is '\(shapes)', which is not one of \(known).")
        }
        guard seconds > 0, seconds <= 60 else {
            throw ValidationError("--seconds is \(seconds) but must be above 0, up to 60.")
        }
    }

    func run() throws {
        let settings = try ResolvedSettings.resolve(
            flags: SettingSource(flags: [computeOptions]), environment: ProcessInfo.processInfo.environment)
        let backend = try RunningModel.makeBackend(settings)
        BenchOutput.report(backend.summary)
        let stopwatch = Stopwatch(for: backend)
        let shapes = shapes.flatMap { KernelShapes(rawValue: $0) } ?? (stopwatch.isOnDevice ? .llama : .small)
        let bench = KernelBench(backend, stopwatch: stopwatch, shapes: shapes, filter: filter, seconds: seconds)
        guard !bench.cases.isEmpty else {
            throw ValidationError(
                "--filter '\(filter ?? "")' names none of the \(shapes.cases.count) operations and shapes.")
        }
        if !json { try BenchOutput.write(KernelMeasurement.header) }
        try bench.run { measurement in
            BenchOutput.report("", isProgress: true)
            try BenchOutput.write(json ? measurement.json.line : measurement.row)
        } progress: { line, isProgress in
            BenchOutput.report(line, isProgress: isProgress)
        }
        BenchOutput.report("", isProgress: true)
    }
}

/// Measures operations one after another.
package struct KernelBench {
    /// The operations that were chosen.
    package let cases: [KernelCase]
    private let stopwatch: Stopwatch
    private let operands: KernelOperands
    private let seconds: Double

    /// - Parameters:
    ///   - filter: a text that name and shape contain; nil for all.
    ///   - seconds: to measure each operation for.
    ///   - coldBytes: of all copies of a streamed operand; nil for what the shapes call for.
    package init(
        _ backend: any Backend, stopwatch: Stopwatch, shapes: KernelShapes, filter: String?, seconds: Double,
        coldBytes: Int? = nil
    ) {
        self.init(
            backend, stopwatch: stopwatch,
            cases: shapes.cases.filter { one in filter.map { "\(one.name) \(one.shape)".contains($0) } ?? true },
            seconds: seconds, coldBytes: coldBytes ?? shapes.coldBytes)
    }

    init(_ backend: any Backend, stopwatch: Stopwatch, cases: [KernelCase], seconds: Double, coldBytes: Int) {
        self.cases = cases
        self.stopwatch = stopwatch
        self.seconds = seconds
        operands = KernelOperands(backend, coldBytes: coldBytes)
    }

    /// Hands each measurement to `take` as it is made. What the device cannot do or hold is told and left out.
    package func run(
        _ take: (KernelMeasurement) throws -> Void, progress: (_ line: String, _ isProgress: Bool) -> Void
    ) throws {
        if stopwatch.isOnDevice, let first = cases.first {
            // Once for nothing: an idle device begins at a low clock.
            do { _ = try measure(first) } catch BackendError.unsupported, BackendError.outOfMemory {
                operands.release()
            }
        }
        for one in cases {
            progress("\(one.name) \(one.shape)", true)
            do {
                try take(try measure(one))
            } catch let error as BackendError {
                if case .deviceFailure = error { throw error }
                operands.release()
                progress("\(one.name) \(one.shape): \(error)", false)
            }
        }
    }

    func measure(_ one: KernelCase) throws -> KernelMeasurement {
        let prepared = try one.prepare(operands)
        let time = try stopwatch.secondsOfOne(
            prepared.calls, canBeCaptured: prepared.canBeCaptured, seconds: seconds)
        try prepared.finish()
        return KernelMeasurement(
            name: one.name, shape: one.shape, microseconds: time * 1e6, bytes: prepared.bytes,
            operations: prepared.operations)
    }
}

/// What was found of one operation.
package struct KernelMeasurement: Sendable {
    package let name: String
    package let shape: String
    /// Of one call.
    package let microseconds: Double
    package let bytes: Int
    package let operations: Int

    package init(name: String, shape: String, microseconds: Double, bytes: Int, operations: Int) {
        self.name = name
        self.shape = shape
        self.microseconds = microseconds
        self.bytes = bytes
        self.operations = operations
    }

    /// The form that Tests/gpu reads.
    package var json: JSONText {
        .object([
            ("name", .string(name)), ("shape", .string(shape)), ("microseconds", .decimal(microseconds, places: 3)),
            ("bytes", .integer(bytes)), ("flops", .integer(operations)),
        ])
    }

    package static let header = Self.line("operation", "shape", "µs", "GB/s", "TFLOP/s")

    package var row: String {
        Self.line(
            name, shape, Decimals.format(microseconds, places: 2),
            Decimals.format(Double(bytes) / microseconds / 1e3, places: 1),
            operations > 0 ? Decimals.format(Double(operations) / microseconds / 1e6, places: 2) : "–")
    }

    private static func line(
        _ name: String, _ shape: String, _ time: String, _ bandwidth: String, _ rate: String
    ) -> String {
        "\(name.padded(to: 20)) \(shape.padded(to: 72)) \(time.indented(to: 11)) \(bandwidth.indented(to: 9)) "
            + rate.indented(to: 8)
    }
}
