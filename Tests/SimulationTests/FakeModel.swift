// A model whose every output depends on every slot it reads.
//
// Like a transformer, it keeps in the cache at each position a state that depends on all tokens before it, and like
// attention it reads all of them back through the block table to choose the next token. A wrong slot, a block reused
// too early or a bad prefix hit therefore changes the output. Like a kernel that multiplies what it masks by 0, it also
// reads to the end of the last block, where a NaN that somebody left would spread. `Oracle` computes the same without a
// cache. Layers with a window beside others without are groups with tables of their own: what they keep at a position
// depends on the oldest that they see from there, so a hit that lacks some of a window changes the output too.

import Scheduling

/// One slot of the fake KV cache.
private struct Cell {
    /// Depends on all tokens up to here, or is poison.
    var state: UInt64
    /// Stands for a key or value that is not a number.
    var isNaN = false
}

/// The arithmetic that the model and the oracle share.
struct Recurrence {
    /// Seeds from here on make the model repeat itself, so that guesses come true.
    static let firstLoopSeed: UInt64 = 1000

    /// State of the position read last.
    private(set) var state: UInt64
    /// Folds all states read, in order; without a window.
    private var summary: UInt64 = 0
    /// States that a row looks back on, the last ones of all that were read, where there is a window.
    private let window: Int?
    private var states: [UInt64] = []

    /// Tenants have different models, as far as the simulation can tell: a hit across salts changes the output.
    init(salt: UInt64, window: Int?) {
        state = mix(salt &+ 1)
        self.window = window
    }

    static func next(after state: UInt64, token: TokenID) -> UInt64 {
        mix(state &+ UInt64(UInt32(bitPattern: token)) &+ 1)
    }

    mutating func read(_ state: UInt64) {
        self.state = state
        if window == nil { summary = Self.fold(summary, state) } else { states.append(state) }
    }

    /// One multiplication, and order still matters.
    static func fold(_ summary: UInt64, _ state: UInt64) -> UInt64 {
        (summary ^ state) &* 0x9e37_79b9_7f4a_7c15
    }

    /// The token that follows what was read.
    /// - Parameter windowed: what groups with a window see.
    func sample(seed: UInt64, position: Int, windowed: UInt64) -> TokenID {
        let summary = window.map { states.suffix($0).reduce(0, Self.fold) } ?? summary
        return Self.sample(after: windowed ^ summary, seed: seed, position: position)
    }

    /// A loop of a few tokens, left now and then: when, depends on all that was read.
    static func sample(after summary: UInt64, seed: UInt64, position: Int) -> TokenID {
        let chance = mix(summary ^ mix(seed &+ UInt64(position)))
        if seed >= firstLoopSeed, chance >> 56 >= 16 {
            return TokenID((UInt64(position) % (seed % 7 + 1)) &+ seed % 11)
        }
        return TokenID(chance % UInt64(FakeModel.vocabulary))
    }
}

/// What groups of layers with a window keep: for each position a state that depends on the oldest one it sees.
struct WindowedStates {
    private let groups: LayerGroups?
    /// [groups, positions] All that were read; a row sees the last ones.
    private var states: [[UInt64]]

    init(_ groups: LayerGroups?) {
        self.groups = groups
        states = Array(repeating: [], count: groups?.windowedCount ?? 0)
    }

    static func state(group: Int, after state: UInt64, oldest: UInt64) -> UInt64 {
        mix(state ^ oldest &+ UInt64(group) &+ 1)
    }

    /// What all groups see from the position read last.
    var summary: UInt64 {
        let window = groups?.window ?? 0
        return states.reduce(0) { $1.suffix(window).reduce($0, Recurrence.fold) }
    }

    mutating func read(_ state: UInt64) {
        guard let groups else { return }
        for group in states.indices {
            let place = states[group].count - groups.window + 1
            let oldest = groups.window > 1 && place >= 0 ? states[group][place] : 0
            states[group].append(Self.state(group: group, after: state, oldest: oldest))
        }
    }
}

/// What a request generates when it is alone in the world.
struct Oracle {
    private var recurrence: Recurrence
    private var windowed: WindowedStates
    private let hasGroups: Bool
    private let seed: UInt64
    private var position: Int

    init(prompt: [TokenID], salt: UInt64, seed: UInt64, window: Int?, groups: LayerGroups?) {
        recurrence = Recurrence(salt: salt, window: window)
        windowed = WindowedStates(groups)
        hasGroups = groups != nil
        self.seed = seed
        position = prompt.count
        for token in prompt { read(token) }
    }

    private mutating func read(_ token: TokenID) {
        recurrence.read(Recurrence.next(after: recurrence.state, token: token))
        if hasGroups { windowed.read(recurrence.state) }
    }

    mutating func next() -> TokenID {
        let token = recurrence.sample(
            seed: seed, position: position, windowed: hasGroups ? windowed.summary : 0)
        read(token)
        position += 1
        return token
    }
}

/// What the model needs of a scheduled sequence: plain numbers, where the whole costs references to copy.
private struct Row {
    let id: RequestID
    let start: Int
    let contextLength: Int
    let samplePosition: Int
    let tokenRange: Range<Int>
    let blockRange: Range<Int>
    let windowedRange: Range<Int>
    let firstWindowedEntry: Int
    let seed: UInt64

    init(_ sequence: borrowing ScheduledSequence) {
        id = sequence.id
        start = sequence.start
        contextLength = sequence.contextLength
        samplePosition = sequence.samplePosition
        tokenRange = sequence.tokenRange
        blockRange = sequence.blockRange
        windowedRange = sequence.windowedRange
        firstWindowedEntry = sequence.firstWindowedEntry
        seed = sequence.sampling.seed
    }
}

/// The fake model with its fake paged cache.
struct FakeModel {
    /// Small, so that sequences sometimes agree and stop tokens come up.
    static let vocabulary = 40

    private let blockSize: Int
    /// Positions that a row looks back on; at least 2, because a step goes on from the state before it.
    private let window: Int?
    private let groups: LayerGroups?
    private var cells: [Cell]
    /// [blocks] Ruined, and not written since.
    private(set) var isPoisoned: [Bool]
    /// What the step executed last sampled.
    private var latestSamples: [TokenID] = []

    init(blockCount: Int, blockSize: Int, window: Int?, groups: LayerGroups?) {
        self.blockSize = blockSize
        self.window = window
        self.groups = groups
        isPoisoned = Array(repeating: false, count: blockCount)
        cells = (0..<blockCount * blockSize).map { Cell(state: mix(0xdead ^ UInt64($0) << 32)) }
    }

    /// Ruins the contents of a block that nobody may read any more.
    mutating func poison(_ block: BlockID) {
        isPoisoned[Int(block.rawValue)] = true
        let base = Int(block.rawValue) * blockSize
        for slot in base..<base + blockSize { cells[slot].state = ~cells[slot].state }
    }

    /// A step that failed half way: nobody knows what it wrote.
    mutating func botch(_ output: borrowing SchedulerOutput) {
        for index in output.sequences.indices {
            let row = Row(output.sequences[index])
            for position in row.start..<row.contextLength {
                let slot = slot(position, of: row, in: output)
                put(Cell(state: ~cells[slot].state, isNaN: true), in: slot)
                for group in 0..<(groups?.windowedCount ?? 0) {
                    let slot = self.slot(position, of: row, group: group, in: output)
                    put(Cell(state: ~cells[slot].state, isNaN: true), in: slot)
                }
            }
        }
    }

    /// Runs one step: writes the slots of all its tokens, then reads every context back. Sequences in `broken` write
    /// NaN. `salt` is what a request came with. Token −1 − r is what row r of the step before sampled.
    mutating func execute(
        _ output: borrowing SchedulerOutput, broken: Set<RequestID>, into samples: inout [TokenSample],
        salt: (RequestID) -> UInt64
    ) {
        for block in output.scrubbedBlocks {
            let base = Int(block.rawValue) * blockSize
            for slot in base..<base + blockSize { cells[slot].isNaN = false }
        }
        for index in output.sequences.indices {
            let row = Row(output.sequences[index])
            var state: UInt64
            let isNaN = !broken.isEmpty && broken.contains(row.id)
            if row.start > 0 {
                state = cells[slot(row.start - 1, of: row, in: output)].state
            } else {
                state = Recurrence(salt: salt(row.id), window: window).state
            }
            for (offset, token) in output.tokens[row.tokenRange].enumerated() {
                state = Recurrence.next(after: state, token: token < 0 ? latestSamples[Int(-1 - token)] : token)
                let slot = slot(row.start + offset, of: row, in: output)
                put(Cell(state: state, isNaN: isNaN), in: slot)
                if let groups {
                    write(state, at: row.start + offset, of: row, groups, in: output, isNaN: isNaN)
                }
            }
        }
        for index in output.sequences.indices where output.sequences[index].samples {
            sample(Row(output.sequences[index]), of: output, into: &samples)
        }
        latestSamples.removeAll(keepingCapacity: true)
        for sample in samples { latestSamples.append(sample.token) }
    }

    /// Samples after the last known token, and after each guess.
    private func sample(
        _ row: Row, of output: borrowing SchedulerOutput, into samples: inout [TokenSample]
    ) {
        var summary: UInt64 = 0
        var isFinite = true
        // Blocks wholly behind the window of the first row that is sampled are not looked at.
        let hidden = window.map { max(0, row.samplePosition - $0) / blockSize } ?? 0
        var position = hidden * blockSize
        let first = samples.count
        let (firstSampled, end, seed) = (row.samplePosition, row.contextLength, row.seed)
        for block in output.blocks[row.blockRange].dropFirst(hidden) {
            let base = Int(block.rawValue) * blockSize
            for slot in base..<base + blockSize {
                let cell = cells[slot]
                if cell.isNaN { isFinite = false }
                guard position < end else { continue }
                summary = Recurrence.fold(summary, cell.state)
                position += 1
                if position < firstSampled { continue }
                let seen = window.map { read(max(0, position - $0)..<position, of: row, in: output) } ?? summary
                let windowed = groups.map { read(position, of: row, $0, in: output) } ?? 0
                let token = Recurrence.sample(after: windowed ^ seen, seed: seed, position: position)
                samples.append(TokenSample(token: token))
            }
        }
        if let groups, !isWindowFinite(row, groups, in: output) { isFinite = false }
        if isFinite { return }
        for place in first..<samples.count {
            samples[place] = TokenSample(token: samples[place].token, isFinite: false)
        }
    }

    private mutating func put(_ cell: Cell, in slot: Int) {
        cells[slot] = cell
        isPoisoned[slot / blockSize] = false
    }

    /// Folds the states of some positions.
    private func read(
        _ positions: Range<Int>, of row: Row, in output: borrowing SchedulerOutput
    ) -> UInt64 {
        var summary: UInt64 = 0
        for position in positions {
            summary = Recurrence.fold(summary, cells[slot(position, of: row, in: output)].state)
        }
        return summary
    }

    /// Writes what windowed groups keep at a position, which depends on the oldest that they see from there.
    private mutating func write(
        _ state: UInt64, at position: Int, of row: Row, _ groups: LayerGroups,
        in output: borrowing SchedulerOutput, isNaN: Bool
    ) {
        let oldest = position - groups.window + 1
        for group in 0..<groups.windowedCount {
            let seesOldest = groups.window > 1 && oldest >= 0
            let old = seesOldest ? cells[slot(oldest, of: row, group: group, in: output)].state : 0
            let new = WindowedStates.state(group: group, after: state, oldest: old)
            put(Cell(state: new, isNaN: isNaN), in: slot(position, of: row, group: group, in: output))
        }
    }

    /// What windowed groups see from the last of `count` tokens.
    private func read(
        _ count: Int, of row: Row, _ groups: LayerGroups, in output: borrowing SchedulerOutput
    ) -> UInt64 {
        var summary: UInt64 = 0
        for group in 0..<groups.windowedCount {
            for position in max(0, count - groups.window)..<count {
                summary = Recurrence.fold(summary, cells[slot(position, of: row, group: group, in: output)].state)
            }
        }
        return summary
    }

    /// Whether all that windowed groups look at is a number, to the end of the last block.
    private func isWindowFinite(
        _ row: Row, _ groups: LayerGroups, in output: borrowing SchedulerOutput
    ) -> Bool {
        let first = max(0, row.samplePosition - groups.window) / blockSize - row.firstWindowedEntry
        return output.blocks[row.windowedRange].dropFirst(first * groups.windowedCount).allSatisfy { block in
            let base = Int(block.rawValue) * blockSize
            return !cells[base..<base + blockSize].contains { $0.isNaN }
        }
    }

    /// A slot of a group with a window. What lies behind the first entry that is left, the group has no more.
    private func slot(
        _ position: Int, of row: Row, group: Int, in output: borrowing SchedulerOutput
    ) -> Int {
        let entry = position / blockSize - row.firstWindowedEntry
        precondition(entry >= 0, "position \(position) of \(row.id) is needed and given up")
        let block = output.blocks[row.windowedRange.lowerBound + entry * (groups?.windowedCount ?? 1) + group]
        return Int(block.rawValue) * blockSize + position % blockSize
    }

    private func slot(_ position: Int, of row: Row, in output: borrowing SchedulerOutput) -> Int {
        let block = output.blocks[row.blockRange.lowerBound + position / blockSize]
        return Int(block.rawValue) * blockSize + position % blockSize
    }
}
