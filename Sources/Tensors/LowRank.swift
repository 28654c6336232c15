// What adapters add to the outputs of a matrix: for each adapter that can be loaded, the product of two thin matrices.
// arXiv 2106.09685.

/// The low-rank changes of one matrix, one for each place an adapter can be loaded at.
package struct LowRankDeltas {
    /// The most rows that a place has.
    package let maxRank: Int
    /// [places × maxRank, inputs] f32: what makes a few numbers of a row.
    package let down: Tensor
    /// [places × maxRank, outputs that change] f32: what makes its change of these; the stored matrix on its side,
    /// times the adapter's scale.
    package let up: Tensor
    /// [places] i32: how many of a place's rows there are; 0 changes nothing.
    package let ranks: Tensor
    /// First of the outputs that change, where several matrices are stacked.
    package let firstColumn: Int

    package init(maxRank: Int, down: Tensor, up: Tensor, ranks: Tensor, firstColumn: Int) {
        self.maxRank = maxRank
        self.down = down
        self.up = up
        self.ranks = ranks
        self.firstColumn = firstColumn
    }

    /// How many adapters there can be.
    package var slotCount: Int { ranks.elementCount }
}
