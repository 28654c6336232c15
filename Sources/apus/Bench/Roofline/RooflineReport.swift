// The roofline as tables of Markdown, fit for docs/benchmarks, and as JSON.

import CPUBackend

/// The machine's limits and the steps beside them.
package struct RooflineReport: Sendable {
    let machine: String
    let model: String
    let limits: MachineLimits
    let steps: [StepShare]

    package init(machine: String, model: String, limits: MachineLimits, steps: [StepShare]) {
        self.machine = machine
        self.model = model
        self.limits = limits
        self.steps = steps
    }

    package var text: String {
        var lines = ["\(machine); \(model)", "", "| read over and over | GB/s |", "|---|---:|"]
        lines += limits.bandwidths.map { "| \(mebibytes($0.byteCount)) | \(number($0.rate * 1e-9)) |" }
        lines += ["", "| product | G operations/s |", "|---|---:|"]
        for product in CPUBackend.Product.allCases {
            let rate = limits.products[product].map { number($0 * 1e-9, 0) } ?? "–"
            lines.append("| \(product.rawValue) | \(rate) |")
        }
        for step in steps { lines += [""] + table(step) }
        return lines.joined(separator: "\n")
    }

    private func number(_ value: Double, _ places: Int = 1) -> String { Decimals.format(value, places: places) }
    private func mebibytes(_ bytes: Int) -> String { "\(number(Double(bytes) / 0x1p20, bytes < 1 << 20 ? 2 : 0)) MiB" }
    private func percent(_ part: Double, of whole: Double) -> String {
        whole > 0 ? "\(number(part / whole * 100, 0)) %" : "–"
    }

    private func table(_ step: StepShare) -> [String] {
        var lines = [
            "### \(step.name)", "",
            "| operation | calls | ms | GB/s | G operations/s | limit, ms | of the limit |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for one in step.operations {
            let seconds = one.measurement.microseconds * 1e-6
            let operations = Double(one.measurement.operations)
            lines.append(
                "| \(one.measurement.name) | \(one.count) | \(number(one.seconds * 1e3, 3)) "
                    + "| \(number(Double(one.measurement.bytes) / seconds * 1e-9)) "
                    + "| \(operations > 0 ? number(operations / seconds * 1e-9, 0) : "–") "
                    + "| \(number(one.limit * 1e3, 3)) (\(one.isBoundByReading ? "reading" : "products")) "
                    + "| \(percent(one.limit, of: one.seconds)) |")
        }
        lines.append(
            "| all operations | | \(number(step.sum * 1e3, 3)) | | | \(number(step.limit * 1e3, 3)) "
                + "| \(percent(step.limit, of: step.sum)) |")
        lines.append(
            "| **whole step on the engine** | | **\(number(step.seconds * 1e3, 3))** | | | "
                + "\(number(step.limit * 1e3, 3)) | **\(percent(step.limit, of: step.seconds))** |")
        // Operations one by one may take longer than in a step, which joins some of them and finds more in the caches.
        let rest =
            step.seconds >= step.sum
            ? "Not in any operation: \(percent(step.seconds - step.sum, of: step.seconds)) of the step."
            : "The step takes less than its operations one by one."
        lines += [
            "",
            "\(rest) Bandwidth at "
                + "\(mebibytes(step.workingSet)): "
                + "\(number(limits.bandwidth(byteCount: step.workingSet) * 1e-9)) GB/s.",
        ]
        return lines
    }

    package var json: JSONText {
        .object([
            ("machine", .string(machine)), ("model", .string(model)),
            (
                "bandwidth",
                .array(
                    limits.bandwidths.map {
                        .object([
                            ("bytes", .integer($0.byteCount)), ("bytes_per_second", .decimal($0.rate, places: 0)),
                        ])
                    })
            ),
            (
                "operations_per_second",
                .object(
                    CPUBackend.Product.allCases.map { product in
                        (product.rawValue, limits.products[product].map { .decimal($0, places: 0) } ?? .null)
                    })
            ),
            ("steps", .array(steps.map(json))),
        ])
    }

    private func json(_ step: StepShare) -> JSONText {
        .object([
            ("name", .string(step.name)), ("working_set_bytes", .integer(step.workingSet)),
            ("seconds", .decimal(step.seconds, places: 9)), ("limit_seconds", .decimal(step.limit, places: 9)),
            ("operation_seconds", .decimal(step.sum, places: 9)),
            (
                "operations",
                .array(
                    step.operations.map { one in
                        .object([
                            ("name", .string(one.measurement.name)), ("shape", .string(one.measurement.shape)),
                            ("calls", .integer(one.count)), ("seconds", .decimal(one.seconds, places: 9)),
                            ("limit_seconds", .decimal(one.limit, places: 9)),
                            ("bound_by", .string(one.isBoundByReading ? "reading" : "products")),
                            ("bytes", .integer(one.measurement.bytes * one.count)),
                            ("operations", .integer(one.measurement.operations * one.count)),
                        ])
                    })
            ),
        ])
    }
}
