// `apus verify`: whether this machine's device computes right. Every operation is checked against 64-bit floats.

import ArgumentParser
import Conformance
import Foundation
import Tensors

struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Check every operation of the device against exact references.",
        discussion: """
            Needs no model. The worst error of each check is shown as a share of what is allowed; the command fails \
            when one exceeds it.
            """)

    @Flag(help: "Only the checks that are quick enough for a memory checker.") var small = false
    @Option(help: "Only checks whose name contains this text.") var filter: String?
    @Flag(help: "Print one JSON object per check instead of a table.") var json = false
    @OptionGroup(title: "Compute") var computeOptions: ComputeOptions

    func run() throws {
        let settings = try ResolvedSettings.resolve(
            flags: SettingSource(flags: [computeOptions]), environment: ProcessInfo.processInfo.environment)
        let backend = try RunningModel.makeBackend(settings)
        FileHandle.standardError.write(Data("\(backend.summary)\n".utf8))
        let cases = ConformanceCase.all.filter { check in
            (!small || check.isSmall) && (filter.map { check.name.contains($0) } ?? true)
        }
        guard !cases.isEmpty else {
            throw ValidationError("--filter '\(filter ?? "")' names none of the \(ConformanceCase.all.count) checks.")
        }
        var failureCount = 0
        for check in cases {
            let worst = try check.worstError(backend)
            let passed = worst <= 1
            if !passed { failureCount += 1 }
            print(json ? line(check, worst, passed).line : row(check, worst, passed))
        }
        guard failureCount == 0 else {
            throw BackendError.deviceFailure(
                operation: "verification", reason: "\(failureCount) of \(cases.count) checks failed")
        }
    }

    private func row(_ check: ConformanceCase, _ worst: Double, _ passed: Bool) -> String {
        "\(passed ? "ok  " : "FAIL")  \(Decimals.format(worst, places: 3).padded(to: 8))  \(check.name)"
    }

    private func line(_ check: ConformanceCase, _ worst: Double, _ passed: Bool) -> JSONText {
        .object([
            ("case", .string(check.name)), ("worst", .decimal(worst, places: 6)),
            ("bound", .integer(1)), ("passed", .boolean(passed)),
        ])
    }
}

extension RunningModel {
    /// The backend that the settings ask for, without a model.
    static func makeBackend(_ settings: ResolvedSettings) throws(BackendError) -> any Backend {
        switch try ComputeDevice.choose(settings) {
        case .cpu: try makeCPUBackend(ComputeConfiguration(settings, coreCount: MachineCores.available()))
        case .cuda(let choice, let kernels): try makeCUDABackend(choice, kernels)
        }
    }
}
