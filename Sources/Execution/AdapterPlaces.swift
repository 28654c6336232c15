// Which of the places for adapters on the device are taken. A place is free again when the last reference is gone, and
// steps that were begun before see what was there: the device takes copies and steps in their order.

import Models
import Scheduling

/// The places of an engine. Lives on the engine thread.
struct AdapterPlaces {
    private let bank: AdapterBank?
    private let ranks: RankThreads?
    private let inbox: Inbox
    /// Highest first.
    private var free: [Int]
    private var lastID: UInt64 = 0

    /// - Parameter ranks: the others, where `bank` is that of the first of several.
    init(_ bank: AdapterBank?, ranks: RankThreads?, inbox: Inbox) {
        self.bank = bank
        self.ranks = ranks
        self.inbox = inbox
        free = Array((0..<(bank?.limits.count ?? 0)).reversed())
    }

    /// Copies an adapter to a place and answers with the reference that keeps it there.
    mutating func load(_ loading: AdapterLoading) {
        guard let bank, let place = free.popLast() else {
            return loading.reply(.failure(.tooManyAdapters(limit: bank?.limits.count ?? 0)))
        }
        ranks?.install(loading.adapter, at: place)
        bank.install(loading.adapter, at: place)
        lastID += 1
        let reference = AdapterReference(id: AdapterID(lastID), name: loading.name, place: Int32(place)) { [inbox] in
            _ = inbox.post(.unload(place: place))
        }
        loading.reply(.success(reference))
    }

    mutating func free(_ place: Int) { free.append(place) }
}
