// `apus inspect`: what is in a checkpoint, and what serving it would take.

import ArgumentParser
import Foundation

struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "Show a model's metadata, tensors and memory plan.")

    @Argument(help: ArgumentHelp(Setting.model.help)) var model: String
    @OptionGroup(title: "Model") var modelOptions: ModelOptions
    @OptionGroup(title: "Compute") var computeOptions: ComputeOptions
    @OptionGroup(title: "KV cache") var cacheOptions: CacheOptions
    @Flag(help: "List every metadata value.") var metadata = false
    @Flag(help: "List every tensor.") var tensors = false
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        let environment = ProcessInfo.processInfo.environment
        let settings = try ResolvedSettings.resolve(
            flags: SettingSource(flags: [modelOptions, computeOptions, cacheOptions], model: model),
            environment: environment)
        let located = try ModelLocator.locate(model, home: settings.text(.home), environment: environment)
        let inspection = try Inspection(path: located.path, settings: settings)
        print(
            json
                ? inspection.json(metadata: metadata, tensors: tensors).line
                : inspection.text(metadata: metadata, tensors: tensors))
    }
}
