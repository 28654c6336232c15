// Shapes: up to four extents stored inline, so that taking a view of a tensor allocates nothing.

/// The extents of a tensor, outermost first.
package struct Shape: Equatable, Sendable, ExpressibleByArrayLiteral, CustomStringConvertible {
    /// The most dimensions a tensor can have.
    package static let maxRank = 4

    private var extents: (Int, Int, Int, Int)
    /// How many dimensions there are (1…`maxRank`).
    package let rank: Int

    package init(arrayLiteral elements: Int...) {
        self.init(elements)
    }

    /// - Precondition: 1…`maxRank` extents, none negative, and a product that fits an `Int`: shapes are made by
    ///   code from validated configurations, never from a request.
    package init(_ elements: [Int]) {
        precondition((1...Self.maxRank).contains(elements.count), "a shape has 1 to 4 dimensions")
        precondition(elements.allSatisfy { $0 >= 0 }, "extents are not negative")
        rank = elements.count
        extents = (
            elements[0], elements.count > 1 ? elements[1] : 1, elements.count > 2 ? elements[2] : 1,
            elements.count > 3 ? elements[3] : 1
        )
    }

    /// Extent of one dimension; 1 beyond the rank.
    package subscript(dimension: Int) -> Int {
        switch dimension {
        case 0: extents.0
        case 1: extents.1
        case 2: extents.2
        default: extents.3
        }
    }

    /// The product of all extents.
    package var elementCount: Int { extents.0 * rowElementCount }

    /// The product of all extents but the outermost.
    package var rowElementCount: Int { extents.1 * extents.2 * extents.3 }

    /// The same shape with another outermost extent.
    package func replacing(rows: Int) -> Shape {
        var copy = self
        copy.extents.0 = rows
        return copy
    }

    package var description: String {
        "[" + (0..<rank).map { String(self[$0]) }.joined(separator: ", ") + "]"
    }

    package static func == (left: Shape, right: Shape) -> Bool {
        left.rank == right.rank && left.extents == right.extents
    }
}
