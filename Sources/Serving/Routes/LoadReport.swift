// The load as gateways read it: a header of the answer in the words of ORCA (Open Request Cost Aggregation), where the
// request asks for one. Saves them a scrape.

import Execution
import HTTPTypes

/// What an answer says of the server's load.
enum LoadReport {
    /// Adds the header that `request` asks for, if any.
    static func add(to answer: inout HTTPFields, for request: HTTPFields, _ engine: any TextEngine) {
        guard let format = request[.loadFormat]?.uppercased() else { return }
        let statistics = engine.statistics
        let figures = [
            ("kv_cache_usage_perc", statistics.kvUsage), ("num_requests_waiting", Double(statistics.waiting)),
        ]
        switch format {
        case "TEXT":
            answer[.load] = "TEXT " + figures.map { "named_metrics.\($0.0)=\($0.1)" }.joined(separator: ", ")
        case "JSON":
            let members = figures.map { "\"\($0.0)\": \($0.1)" }.joined(separator: ", ")
            answer[.load] = "JSON {\"named_metrics\": {\(members)}}"
        default: break
        }
    }
}

extension HTTPField.Name {
    fileprivate static let loadFormat = named("endpoint-load-metrics-format")
    fileprivate static let load = named("endpoint-load-metrics")

    /// The name of a literal.
    private static func named(_ text: String) -> HTTPField.Name {
        guard let name = HTTPField.Name(text) else { preconditionFailure("the literal is a valid name") }
        return name
    }
}
