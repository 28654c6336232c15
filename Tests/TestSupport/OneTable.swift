// Every layer's keys and values in blocks of one table, as if no layer had a window: what groups of layers must equal.

import Models
import Tensors

/// A model that does not say which of its layers have a window, so that all of them share one table.
package final class OneTable: LanguageModel {
    private let model: any LanguageModel

    package init(_ model: any LanguageModel) { self.model = model }

    package var dimensions: ModelDimensions {
        let whole = model.dimensions
        return ModelDimensions(
            architecture: whole.architecture, layerCount: whole.layerCount, kvHeadCount: whole.kvHeadCount,
            headDim: whole.headDim, vocabularyCount: whole.vocabularyCount, contextLength: whole.contextLength,
            matrixMultiplications: whole.matrixMultiplications, attentionMultiplications: whole.attentionMultiplications
        )
    }
    package var logits: Tensor { model.logits }
    package var hidden: Tensor { model.hidden }
    package var sampledHidden: Tensor { model.sampledHidden }
    package var outputNorm: OutputNorm { model.outputNorm }
    package var adapters: AdapterBank? { model.adapters }
    package var weightBytes: Int { model.weightBytes }
    package var activationBytes: Int { model.activationBytes }

    package func forward(_ step: ForwardStep, cache: [KVLayer], backend: any Backend) {
        model.forward(step, cache: cache, backend: backend)
    }
}
