// The settings of a server as the command line of `serve` and `check` takes them.

import ArgumentParser

package struct ServeOptions: ParsableArguments {
    @Argument(help: ArgumentHelp(Setting.model.help)) var model: String?
    @OptionGroup(title: "Model") var modelOptions: ModelOptions
    @OptionGroup(title: "LoRA adapters") var adapterOptions: AdapterOptions
    @OptionGroup(title: "Compute") var computeOptions: ComputeOptions
    @OptionGroup(title: "KV cache") var cacheOptions: CacheOptions
    @OptionGroup(title: "Scheduling") var schedulingOptions: SchedulingOptions
    @OptionGroup(title: "HTTP") var httpOptions: HTTPOptions
    @OptionGroup(title: "Logging") var loggingOptions: LoggingOptions
    @OptionGroup(title: "Metrics") var metricsOptions: MetricsOptions

    package init() {}

    /// What was given on the command line.
    package var source: SettingSource {
        SettingSource(
            flags: [
                modelOptions, adapterOptions, computeOptions, cacheOptions, schedulingOptions, httpOptions,
                loggingOptions, metricsOptions,
            ], model: model)
    }
}
