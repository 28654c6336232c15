// Radians per position of every pair, with what a model does to reach beyond the context it was trained with.

import Checkpoints
import Foundation

/// [dimension / 2] frequencies: theta^(−2i / dimension), stretched.
/// - Parameter divisors: [dimension / 2] of each frequency, where a checkpoint has them.
func rotaryFrequencies(theta: Double, dimension: Int, scaling: RopeScaling, divisors: [Double]?) -> [Float] {
    (0..<dimension / 2).map { pair in
        let frequency = pow(theta, -Double(2 * pair) / Double(dimension))
        let stretched: Double =
            switch scaling {
            case .none, .longRope: frequency
            case .linear(let factor): frequency / factor
            case .llama3(let factor, let low, let high, let context):
                llama3Frequency(frequency, factor: factor, low: low, high: high, context: Double(context))
            case .yarn(let yarn): yarnFrequency(frequency, pair: pair, theta: theta, dimension: dimension, yarn)
            }
        return Float(stretched / (divisors?[pair] ?? 1))
    }
}

private func llama3Frequency(
    _ frequency: Double, factor: Double, low: Double, high: Double, context: Double
) -> Double {
    let turns = context * frequency / (2 * .pi)
    if turns < low { return frequency / factor }
    if turns > high { return frequency }
    let share = (turns - low) / (high - low)
    return (1 - share) * frequency / factor + share * frequency
}

/// Pairs that turn more than `betaFast` times within the original context are left as they are, those that turn less
/// than `betaSlow` times are divided, those between are blended.
private func yarnFrequency(
    _ frequency: Double, pair: Int, theta: Double, dimension: Int, _ yarn: YarnScaling
) -> Double {
    func bound(_ turns: Double) -> Double {
        Double(dimension) * log(Double(yarn.originalContext) / (turns * 2 * .pi)) / (2 * log(theta))
    }
    var (low, high) = (bound(yarn.betaFast), bound(yarn.betaSlow))
    if yarn.isTruncated { (low, high) = (low.rounded(.down), high.rounded(.up)) }
    low = max(low, 0)
    high = min(high, Double(dimension - 1))
    if low == high { high += 0.001 }
    let share = min(max((Double(pair) - low) / (high - low), 0), 1)
    return frequency / yarn.factor * share + frequency * (1 - share)
}

extension RopeScaling {
    /// What turned elements are multiplied by.
    var magnitude: Double {
        switch self {
        case .none, .linear, .llama3: 1
        case .yarn(let yarn): yarn.magnitude
        case .longRope(let scaling): scaling.magnitude
        }
    }
}
