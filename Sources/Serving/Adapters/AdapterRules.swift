// The operator's limits on adapters; the engine is planned by them before there is a library.

/// What the operator allows.
package struct AdapterRules: Sendable, Equatable {
    /// Most adapters that have a name.
    package let maxCount: Int
    /// Whether adapters are loaded and unloaded by request.
    package let allowsLoading: Bool

    package init(maxCount: Int, allowsLoading: Bool) {
        self.maxCount = maxCount
        self.allowsLoading = allowsLoading
    }

    /// Places that the engine needs: one more where adapters change while it runs, for those that requests still use.
    package var placeCount: Int { maxCount + (allowsLoading ? 1 : 0) }
}
