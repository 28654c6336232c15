// The time of day: for `created` and for templates that print a date. Intervals are never measured with it.

import FoundationEssentials

/// The wall clock.
enum WallClock {
    /// Whole seconds since 1970, UTC.
    static var seconds: Int { Int(Date.now.timeIntervalSince1970) }
}
