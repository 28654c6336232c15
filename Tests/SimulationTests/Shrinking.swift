// Makes a failing scenario small enough to think about: takes out clients, then what happens to them, then length, and
// keeps whatever still fails in the same way or another.

import Scheduling

extension Scenario {
    /// The smallest scenario found that still fails; `fails` runs one.
    func shrunk(fails: (Scenario) -> Bool) -> Scenario {
        var best = self
        var runs = 0
        func attempt(_ change: (inout Scenario) -> Void) -> Bool {
            guard runs < 500 else { return false }
            runs += 1
            var candidate = best
            change(&candidate)
            guard fails(candidate) else { return false }
            best = candidate
            return true
        }
        var size = max(1, best.clients.count / 2)
        while true {
            var start = 0
            while start < best.clients.count {
                let range = start..<min(start + size, best.clients.count)
                if best.clients.count == range.count || !attempt({ $0.clients.removeSubrange(range) }) { start += size }
            }
            if size == 1 { break }
            size /= 2
        }
        if !best.failingSteps.isEmpty { _ = attempt { $0.failingSteps = [] } }
        for index in best.clients.indices {
            if best.clients[index].hasFate {
                _ = attempt { $0.clients[index].abortMove = nil }
                _ = attempt { $0.clients[index].brokenSample = nil }
                _ = attempt { $0.clients[index].stepsPerRead = 0 }
                _ = attempt { $0.clients[index].forcedTokenCount = 0 }
            }
            while best.clients[index].request.prompt.count > 1,
                attempt({ $0.clients[index].request.halvePrompt() })
            {}
            let limit = best.limits.maxModelLength
            while min(best.clients[index].request.maxNewTokens, limit) > 1,
                attempt({ $0.clients[index].request.halveLength(atMost: limit) })
            {}
        }
        return best
    }
}

extension GenerationRequest {
    fileprivate mutating func halvePrompt() { self = copy(prompt: Array(prompt.prefix(prompt.count / 2))) }

    fileprivate mutating func halveLength(atMost limit: Int) { self = copy(maxNewTokens: min(maxNewTokens, limit) / 2) }

    private func copy(prompt: [TokenID]? = nil, maxNewTokens: Int? = nil) -> GenerationRequest {
        GenerationRequest(
            id: id, prompt: prompt ?? self.prompt, maxNewTokens: maxNewTokens ?? self.maxNewTokens,
            stopTokens: stopTokens, sampling: sampling, priority: priority, arrival: arrival, cacheSalt: cacheSalt,
            deadline: deadline, repetition: repetition, promptLogprobCount: promptLogprobCount, tenant: tenant)
    }
}
