// When requests arrive in an open loop: gaps of a gamma distribution, of which a Poisson process is the case of
// burstiness 1, at a rate that may change from the first request to the last.

import Conformance
import Foundation

/// How requests arrive.
package struct ArrivalSchedule: Sendable {
    /// How the rate changes from a first to a last one.
    package enum RampUp: String, CaseIterable, Sendable {
        case linear, exponential
    }

    /// Requests a second; nil for all at once.
    package var rate: Double?
    /// The shape of the gaps' distribution: below 1 in bursts, 1 Poisson, above 1 more even.
    package var burstiness = 1.0
    /// A rate that changes, in place of `rate`.
    package var ramp: (strategy: RampUp, first: Double, last: Double)?

    package init(rate: Double? = nil) { self.rate = rate }

    /// Seconds from the beginning to each of `count` arrivals, in order; the first is at 0. The same seed gives the
    /// same ones. The gaps are scaled so that they take as long as their rates say: a rate is met in every run, and
    /// not only in the mean of many.
    package func offsets(count: Int, seed: UInt64) -> [Double] {
        guard count > 1, rate != nil || ramp != nil else { return Array(repeating: 0, count: count) }
        var numbers = SeededNumbers(seed)
        let means = (1..<count).map { 1 / rate(of: $0, count: count) }
        let gaps = means.map { $0 / burstiness * Self.gamma(shape: burstiness, using: &numbers) }
        let total = gaps.reduce(0, +)
        let scale = total > 0 ? means.reduce(0, +) / total : 0
        var offsets = [0.0]
        offsets.reserveCapacity(count)
        var now = 0.0
        for gap in gaps {
            now += gap * scale
            offsets.append(now)
        }
        return offsets
    }

    /// Requests a second when the request at `index` is due.
    private func rate(of index: Int, count: Int) -> Double {
        guard let ramp else { return rate ?? .infinity }
        let progress = Double(index) / Double(max(1, count - 1))
        switch ramp.strategy {
        case .linear: return ramp.first + (ramp.last - ramp.first) * progress
        case .exponential: return ramp.first * pow(ramp.last / ramp.first, progress)
        }
    }

    /// A number of the gamma distribution of scale 1 (Marsaglia and Tsang, "A simple method for generating gamma
    /// variables", 2000).
    private static func gamma(shape: Double, using numbers: inout SeededNumbers) -> Double {
        func uniform() -> Double { Double(numbers.next() >> 11) * 0x1p-53 + 0x1p-54 }
        // Below 1 by way of the shape one above.
        if shape < 1 { return gamma(shape: shape + 1, using: &numbers) * pow(uniform(), 1 / shape) }
        let d = shape - 1.0 / 3
        let c = 1 / (9 * d).squareRoot()
        while true {
            let normal = (-2 * log(uniform())).squareRoot() * cos(2 * .pi * uniform())
            let base = 1 + c * normal
            guard base > 0 else { continue }
            let cube = base * base * base
            if log(uniform()) < 0.5 * normal * normal + d - d * cube + d * log(cube) { return d * cube }
        }
    }
}
