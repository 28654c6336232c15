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
    @Option(help: "Check instead how this many ranks on GPUs add and gather.") var ranks: Int?
    @Option(help: "Path of the collective library, for --ranks.") var ncclLibrary: String?
    @OptionGroup(title: "Compute") var computeOptions: ComputeOptions

    func run() throws {
        let settings = try ResolvedSettings.resolve(
            flags: SettingSource(flags: [computeOptions]), environment: ProcessInfo.processInfo.environment)
        if let ranks { return try verify(ranks: ranks, settings) }
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
            print(json ? line(check.name, worst, passed).line : row(check.name, worst, passed))
        }
        guard failureCount == 0 else {
            throw BackendError.deviceFailure(
                operation: "verification", reason: "\(failureCount) of \(cases.count) checks failed")
        }
    }

    private func verify(ranks: Int, _ settings: ResolvedSettings) throws {
        guard (1...8).contains(ranks) else { throw ValidationError("--ranks \(ranks) is not between 1 and 8.") }
        guard case .cuda(let choice, let kernels) = try ComputeDevice.choose(settings) else {
            throw ValidationError("--ranks needs a GPU; see --device.")
        }
        let check = RankVerification(
            kernels: kernels, first: choice, count: ranks, isSmall: small, library: ncclLibrary)
        let outcomes = try check.outcomes()
        var failureCount = 0
        for (name, result) in outcomes {
            switch result {
            case .success(let worst):
                if worst > 1 { failureCount += 1 }
                print(json ? line(name, worst, worst <= 1).line : row(name, worst, worst <= 1))
            case .failure(let error):
                FileHandle.standardError.write(Data("Not checked: \(name). \(error)\n".utf8))
            }
        }
        guard failureCount == 0 else {
            throw BackendError.deviceFailure(
                operation: "verification", reason: "\(failureCount) of \(outcomes.count) checks failed")
        }
    }

    private func row(_ name: String, _ worst: Double, _ passed: Bool) -> String {
        "\(passed ? "ok  " : "FAIL")  \(Decimals.format(worst, places: 3).padded(to: 8))  \(name)"
    }

    private func line(_ name: String, _ worst: Double, _ passed: Bool) -> JSONText {
        .object([
            ("case", .string(name)), ("worst", .decimal(worst, places: 6)),
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
