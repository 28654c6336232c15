// What one step tells attention: which rows belong to which sequence and where their keys and values lie.
//
// Any mix of query lengths is one batch. "Prefill" and "decode" are only adjectives for long and short queries.

/// Cached keys and values of one layer. The layout inside is the backend's own.
package struct KVLayer {
    /// [blocks, kvHeads, blockSize, headDim] keys, or the backend's permutation of it.
    package let keys: Tensor
    /// [blocks, kvHeads, blockSize, headDim] values, or the backend's permutation of it.
    package let values: Tensor
    /// Tokens per block.
    package let blockSize: Int
    /// What keys and values are kept as; never `auto`.
    package let type: KVCacheType
    /// Which of a step's block tables say where its tokens lie: those of the layer's group.
    package var group = 0

    package init(keys: Tensor, values: Tensor, blockSize: Int, type: KVCacheType) {
        self.keys = keys
        self.values = values
        self.blockSize = blockSize
        self.type = type
    }
}

/// The shape of one step's attention and the tensors that describe it.
///
/// A step filled up to a `padded` shape ends with sequences of one token, at position 0 of a block that nobody reads.
/// Where the counts differ, the last of them have no rows (query and context length 0), or the last rows belong to no
/// sequence (the last of `queryStarts` lies before them) and what attention leaves in them does not matter.
package struct AttentionBatch {
    /// Rows in this step, those it is filled up with included.
    package var tokenCount: Int
    /// Sequences in this step, those it is filled up with included.
    package var sequenceCount: Int
    /// The longest query and the longest context in the batch; for choosing a launch shape. A captured step must not
    /// depend on them beyond `isDecodeOnly`.
    package var maxQueryLength: Int
    package var maxContextLength: Int
    /// [sequences + 1] i32: first row of each sequence's query; the last entry is where the last one ends.
    package var queryStarts: Tensor
    /// [sequences] i32: tokens in the cache after this step, the query included.
    package var contextLengths: Tensor
    /// [sequences, maxBlocksPerSequence] i32: block ids in order of position.
    package var blockTables: Tensor
    /// [tokens] i32: cache slot of each row's key and value (slot = block × blockSize + offset).
    package var slotMapping: Tensor
    /// [tokens] i32: position of each row in its sequence.
    package var positions: Tensor

    package init(
        tokenCount: Int, sequenceCount: Int, maxQueryLength: Int, maxContextLength: Int, queryStarts: Tensor,
        contextLengths: Tensor, blockTables: Tensor, slotMapping: Tensor, positions: Tensor
    ) {
        self.tokenCount = tokenCount
        self.sequenceCount = sequenceCount
        self.maxQueryLength = maxQueryLength
        self.maxContextLength = maxContextLength
        self.queryStarts = queryStarts
        self.contextLengths = contextLengths
        self.blockTables = blockTables
        self.slotMapping = slotMapping
        self.positions = positions
    }
}
