// A loaded adapter, as requests know it.
//
// Whoever may still use it holds a reference: the name that it is served under, and every request that asked for it.
// With the last reference it goes, so that a request in flight keeps what it began with, whatever is loaded or
// unloaded meanwhile.

/// One loading of an adapter. Another adapter under the same name is another one, and so is the same loaded again.
package struct AdapterID: Hashable, Sendable {
    /// Counted from 1 over the life of the process; 0 stands for no adapter.
    package let rawValue: UInt64

    /// Wraps a number that was never used before.
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }
}

/// Keeps an adapter loaded.
package final class AdapterReference: Sendable {
    package let id: AdapterID
    /// What it was called when it was loaded, for the metrics.
    package let name: String
    /// Where it lies on the device, from 0.
    package let place: Int32
    private let release: @Sendable () -> Void

    /// - Parameter release: called once, on any thread, when nobody uses the adapter any more.
    package init(id: AdapterID, name: String, place: Int32, release: @escaping @Sendable () -> Void) {
        self.id = id
        self.name = name
        self.place = place
        self.release = release
    }

    deinit { release() }
}
