// How the layers of a model lie in the blocks of the KV cache.
//
// Usually a block holds its tokens for all layers. Where layers with a window alternate with others (Gemma 2 and 3,
// Usually a block holds its tokens for all layers. Where windowed layers alternate with others (Gemma 2, Gemma 3,
// the last may be smaller. Layers of different groups then lie in the same memory, in blocks of their own.

import Models
import Scheduling

/// What the cache must know of a model's layers.
package struct CacheLayout: Sendable, Equatable {
    /// Layers of the model.
    package let layerCount: Int
    /// Those with a window.
    package let windowedLayers: Set<Int>
    /// Positions that these look back on.
    package let window: Int?

    /// A model of layers that all see everything.
    package init(layerCount: Int) { self.init(layerCount: layerCount, windowedLayers: [], window: nil) }

    /// Gathers the fields.
    package init(layerCount: Int, windowedLayers: Set<Int>, window: Int?) {
        self.layerCount = layerCount
        self.windowedLayers = windowedLayers
        self.window = window
    }

    /// A loaded model's.
    package init(_ dimensions: ModelDimensions) {
        self.init(
            layerCount: dimensions.layerCount, windowedLayers: dimensions.windowedLayers,
            window: dimensions.slidingWindow)
    }

    /// The window of a model where every layer has it.
    package var commonWindow: Int? { windowedLayers.count == layerCount ? window : nil }

    /// The groups that save memory for sequences of `length` tokens; nil: one table for all layers.
    package func groups(length: Int, blockSize: Int) -> LayerGroups? {
        let others = layerCount - windowedLayers.count
        // With fewer windowed layers than others, their blocks would stay half empty.
        guard let window, others > 0, windowedLayers.count >= others else { return nil }
        let groups = LayerGroups(windowedCount: (windowedLayers.count + others - 1) / others, window: window)
        let entries = (length + blockSize - 1) / blockSize
        let blocks = groups.blocks(forEntries: entries, chunk: 1, blockSize: blockSize)
        return blocks * others < entries * layerCount ? groups : nil
    }

    /// Layers that a block holds tokens for.
    package func layersPerBlock(_ groups: LayerGroups?) -> Int {
        groups == nil ? layerCount : layerCount - windowedLayers.count
    }

    /// [layers] The group of each layer, and its place among the layers of a block.
    func places(_ groups: LayerGroups?) -> [(group: Int, place: Int)] {
        guard groups != nil else { return (0..<layerCount).map { (0, $0) } }
        var (others, windowed) = (0, 0)
        return (0..<layerCount).map { layer in
            if windowedLayers.contains(layer) {
                defer { windowed += 1 }
                return (1 + windowed / layersPerBlock(groups), windowed % layersPerBlock(groups))
            }
            defer { others += 1 }
            return (0, others)
        }
    }
}
