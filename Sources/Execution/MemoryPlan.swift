// Where the gigabytes go: decided once, before anything is allocated for serving, and printed.

import Scheduling

/// The sizes of everything the engine allocates at start-up.
package struct MemoryPlan: Sendable, Equatable {
    /// Weights as prepared for the device.
    package let weightBytes: Int
    /// Activations, logits and step inputs.
    package let activationBytes: Int
    /// Room for adapters of the largest rank.
    package let adapterBytes: Int
    /// Keys and values of one token, over all layers.
    package let kvBytesPerToken: Int
    /// Tokens per KV block.
    package let blockSize: Int
    package let blockCount: Int
    /// Keys and values of one block, over the layers that it is for.
    package let blockBytes: Int
    /// Longest sequence accepted, prompt and output together.
    package let maxModelLength: Int
    /// The model's layers.
    package let layout: CacheLayout
    /// Where some of them look back on a window and others do not; nil: all share one table.
    package let layerGroups: LayerGroups?

    /// Tokens the KV cache holds, in sequences of full length.
    package var cacheTokenCount: Int {
        layerGroups == nil ? blockCount * blockSize : Int(concurrency(length: maxModelLength) * Double(maxModelLength))
    }
    package var cacheBytes: Int { blockCount * blockBytes }
    /// Keys and values of one token, over the layers that still hold it behind the window of the others.
    package var keptBytesPerToken: Int { layerGroups == nil ? kvBytesPerToken : blockBytes / blockSize }
    /// What a block holds, for people.
    package var blockContents: String {
        guard layerGroups != nil else { return "\(blockSize) tokens" }
        return "\(blockSize) tokens in \(layout.layersPerBlock(layerGroups)) of \(layout.layerCount) layers"
    }
    /// How many sequences of `length` tokens fit at once, while they generate.
    package func concurrency(length: Int) -> Double {
        let length = max(1, length)
        guard let layerGroups else { return Double(blockCount * blockSize) / Double(length) }
        let entries = (length + blockSize - 1) / blockSize
        return Double(blockCount) / Double(layerGroups.blocks(forEntries: entries, chunk: 1, blockSize: blockSize))
    }

    /// What is known about a model before its cache is sized.
    package struct Model: Sendable {
        package let contextLength: Int
        package let weightBytes: Int
        package let activationBytes: Int
        package let adapterBytes: Int
        package let kvBytesPerToken: Int
        package let layout: CacheLayout

        package init(
            contextLength: Int, weightBytes: Int, activationBytes: Int, adapterBytes: Int = 0, kvBytesPerToken: Int,
            layout: CacheLayout = CacheLayout(layerCount: 1)
        ) {
            self.adapterBytes = adapterBytes
            self.contextLength = contextLength
            self.weightBytes = weightBytes
            self.activationBytes = activationBytes
            self.kvBytesPerToken = kvBytesPerToken
            self.layout = layout
        }
    }

    /// Sizes the cache.
    ///
    /// By default it takes a quarter of the memory the model leaves, but no more than 320 MiB or one sequence of full
    /// length, whichever is larger: a cache beyond that only holds old prefixes, and fills the memory with them.
    /// - Throws: `EngineError.invalidConfiguration` when not even one sequence of full length fits.
    package init(configuration: EngineConfiguration, model: Model) throws(EngineError) {
        let length = configuration.maxModelLength ?? model.contextLength
        guard (1...model.contextLength).contains(length) else {
            throw .invalidConfiguration(
                "max-model-len is \(length), but the model was trained for at most \(model.contextLength) tokens. "
                    + "Choose 1 to \(model.contextLength).")
        }
        let blockSize = configuration.blockSize
        let groups = model.layout.groups(length: length, blockSize: blockSize)
        // Every layer costs the same.
        let bytesPerToken = model.kvBytesPerToken / model.layout.layerCount * model.layout.layersPerBlock(groups)
        let (blockBytes, overflow) = blockSize.multipliedReportingOverflow(by: bytesPerToken)
        guard !overflow else {
            throw .invalidConfiguration(
                "A KV block of \(blockSize) tokens of \(bytesPerToken) bytes each exceeds the address space. "
                    + "Lower --block-size.")
        }
        let entries = (length + blockSize - 1) / blockSize
        let neededBlocks =
            groups?.blocks(forEntries: entries, chunk: configuration.tokenBudget, blockSize: blockSize) ?? entries
        let blockCount: Int
        if let override = configuration.blockCountOverride {
            blockCount = override
        } else {
            let taken = model.weightBytes + model.activationBytes + model.adapterBytes
            let free = max(0, configuration.availableMemoryBytes - taken)
            let oneSequence =
                groups == nil
                ? length.multipliedReportingOverflow(by: model.kvBytesPerToken)
                : neededBlocks.multipliedReportingOverflow(by: blockBytes)
            let automatic = min(free / 4, max(320 << 20, oneSequence.overflow ? .max : oneSequence.partialValue))
            blockCount = (configuration.kvCacheMemoryBytes ?? automatic) / max(1, blockBytes)
        }
        guard !blockCount.multipliedReportingOverflow(by: max(1, blockBytes)).overflow else {
            throw .invalidConfiguration(
                "\(blockCount) KV blocks of \(blockBytes) bytes exceed the address space. Lower "
                    + "--num-gpu-blocks-override or --kv-cache-memory-bytes.")
        }
        guard blockCount >= neededBlocks else {
            throw .invalidConfiguration(
                "One request of max-model-len \(length) tokens needs \(neededBlocks) KV blocks "
                    + "(\(neededBlocks * blockBytes) bytes), but the cache has \(blockCount) "
                    + "(\(blockCount * blockBytes) bytes). Raise --kv-cache-memory-bytes, or lower --max-model-len "
                    + "to \(blockCount * entries / neededBlocks * blockSize) or less.")
        }
        weightBytes = model.weightBytes
        activationBytes = model.activationBytes
        adapterBytes = model.adapterBytes
        kvBytesPerToken = model.kvBytesPerToken
        self.blockSize = blockSize
        self.blockCount = blockCount
        self.blockBytes = blockBytes
        maxModelLength = length
        layout = model.layout
        layerGroups = groups
    }
}
