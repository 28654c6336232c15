// What adapters add to rows, each of which may have another one or none.

import Tensors

extension ConformanceCase {
    package static let lowRankCases: [ConformanceCase] = [
        ConformanceCase("addLowRank agrees with f64 and leaves other rows and columns alone") { backend in
            try backend.require(.adapters)
            var worst = WorstError()
            for shape in LowRankShape.all { try shape.check(backend, &worst) }
            return worst.value
        },
        ConformanceCase("addLowRank gives a row the same bits in any company") { backend in
            try backend.require(.adapters)
            var worst = WorstError()
            for shape in LowRankShape.all { try shape.checkCompany(backend, &worst) }
            return worst.value
        },
    ]
}

/// A matrix, its adapters and rows with a choice of them.
private struct LowRankShape {
    let columns: Int
    /// Outputs before, changed, and behind.
    let before: Int
    let width: Int
    let after: Int
    let maxRank: Int
    let ranks: [Int]
    let choices: [Int32]

    static let all = [
        LowRankShape(columns: 64, before: 0, width: 64, after: 0, maxRank: 4, ranks: [4], choices: [0]),
        LowRankShape(
            columns: 100, before: 13, width: 77, after: 5, maxRank: 8, ranks: [1, 0, 7], choices: [2, -1, 0, 1, 2, 0]),
        LowRankShape(
            columns: 576, before: 576, width: 192, after: 192, maxRank: 16, ranks: [16, 3, 8],
            choices: (0..<37).map { Int32($0 * 7 % 4) - 1 }),
        LowRankShape(columns: 8, before: 0, width: 16, after: 0, maxRank: 256, ranks: [256], choices: [-1, 0, 0]),
    ]

    private var total: Int { before + width + after }

    private struct Values {
        let x: [Float]
        let down: [Float]
        let up: [Float]
        let start: [Float]
    }

    /// Places hold numbers beyond their rank that must not count.
    private func values(_ input: DType) -> Values {
        var numbers = SeededNumbers(UInt64(columns * 31 + width))
        let rows = maxRank * ranks.count
        return Values(
            x: numbers.normals(choices.count * columns).map { $0.rounded(to: input) },
            down: numbers.normals(rows * columns), up: numbers.normals(rows * width),
            start: numbers.normals(choices.count * total))
    }

    /// What becomes of `rows`.
    private func run(_ values: Values, _ rows: [Int], _ backend: any Backend) throws -> [Float] {
        let places = ranks.count
        let deltas = LowRankDeltas(
            maxRank: maxRank, down: try backend.tensor(values.down, [places * maxRank, columns]),
            up: try backend.tensor(values.up, [places * maxRank, width]),
            ranks: try backend.tensor(ranks.map { Int32($0) }), firstColumn: before)
        func picked(_ all: [Float], _ width: Int) -> [Float] { rows.flatMap { all[$0 * width..<($0 + 1) * width] } }
        let x = try backend.tensor(picked(values.x, columns), [rows.count, columns], backend.linearInputType)
        let output = try backend.tensor(picked(values.start, total), [rows.count, total])
        backend.addLowRank(x, deltas, choices: try backend.tensor(rows.map { choices[$0] }), into: output)
        try backend.synchronize()
        return backend.download(output)
    }

    func check(_ backend: any Backend, _ worst: inout WorstError) throws {
        let values = values(backend.linearInputType)
        let result = try run(values, Array(choices.indices), backend)
        for (row, choice) in choices.enumerated() {
            let x = values.x[row * columns..<(row + 1) * columns].map { Double($0) }
            let rank = choice < 0 ? 0 : ranks[Int(choice)]
            let inner = (0..<rank).map { index -> (sum: Double, size: Double) in
                let first = (Int(choice) * maxRank + index) * columns
                let terms = zip(values.down[first..<first + columns], x).map { Double($0) * $1 }
                return (terms.reduce(0, +), terms.reduce(0) { $0 + abs($1) })
            }
            for column in 0..<total {
                let start = Double(values.start[row * total + column])
                let isChanged = (before..<before + width).contains(column)
                var (expected, size) = (start, abs(start))
                if isChanged {
                    for (index, number) in inner.enumerated() {
                        let factor = Double(values.up[(Int(choice) * maxRank + index) * width + column - before])
                        expected += number.sum * factor
                        size += number.size * abs(factor)
                    }
                }
                let error = Double(result[row * total + column]) - expected
                worst.note(error, allowed: isChanged && rank > 0 ? 1e-6 * size : 1e-30)
            }
        }
    }

    func checkCompany(_ backend: any Backend, _ worst: inout WorstError) throws {
        let values = values(backend.linearInputType)
        let together = try run(values, Array(choices.indices), backend)
        for row in choices.indices {
            let alone = try run(values, [row], backend)
            worst.note(bits(alone) == bits(together[row * total..<(row + 1) * total]))
        }
    }
}
