// Sharing blocks between sequences: what the cache holds, and what the step being planned is computing.

extension Scheduler {
    /// Blocks that a sequence may take from others: full ones, and never the one with its last known token, because
    /// that token must be computed to sample from it.
    private func shareableBlockCount(of sequence: SequenceState) -> Int {
        // What is scored or pooled must be computed.
        guard limits.enablePrefixCaching, !sequence.hasUnscoredTokens, !sequence.hasUnpooledTokens else { return 0 }
        let last = faults.contains(.sharesLastBlock) ? 0 : 1
        return (sequence.tokens.count - last) / limits.blockSize
    }

    /// Fills `matches` with the cached prefix of a waiting sequence; returns how many of those blocks are free, and how
    /// many of the entries that windowed groups share.
    mutating func findCachedPrefix(of sequence: SequenceState) -> (blocks: Int, windowedEntries: Int) {
        matches.removeAll(keepingCapacity: true)
        var parent: UInt64 = 0
        let count = shareableBlockCount(of: sequence)
        while matches.count < count, let match = find(block: matches.count, of: sequence, parent: parent) {
            parent = match.publication
            matches.append(match)
        }
        let windowedEntries = trimMatchesToWindows()
        let free = matches.reduce(0) { $0 + (pool.referenceCount(of: $1.block) == 0 ? 1 : 0) }
        return (free, windowedEntries)
    }

    /// Takes over, at a block boundary, what others have computed since the last step.
    mutating func shareComputedBlocks(with sequence: SequenceState) {
        guard sequence.reachedTokenCount == sequence.publishedBlockCount * limits.blockSize else { return }
        let count = shareableBlockCount(of: sequence)
        while sequence.publishedBlockCount < count,
            let match = find(block: sequence.publishedBlockCount, of: sequence, parent: sequence.lastPublication),
            limits.layerGroups == nil || pool.hasCompany(match.block)
        {
            share(match, with: sequence)
            if limits.layerGroups != nil {
                shareCompany(of: match, with: sequence)
                releaseHiddenBlocks(of: sequence, hasSampled: false)
            }
        }
    }

    /// Adds one block of the cache to a sequence, but not what goes with it in windowed groups.
    mutating func share(_ match: CachedBlock, with sequence: SequenceState) {
        pool.share(match.block, with: &sequence.table)
        sequence.computedTokenCount += limits.blockSize
        sequence.publishedBlockCount += 1
        sequence.lastPublication = match.publication
        if sequence.preemptionCount == 0, sequence.generatedTokenCount == 0 {
            sequence.cachedTokenCount += limits.blockSize
            totals.prefixHits += limits.blockSize
        }
    }

    /// Claims the blocks that the planned tokens of a sequence touch, as far as all their tokens are known.
    mutating func claimBlocks(of sequence: SequenceState) {
        guard limits.enablePrefixCaching else { return }
        let first = sequence.reachedTokenCount / limits.blockSize
        let touched = limits.blocks(forTokens: sequence.reachedTokenCount + sequence.scheduledTokenCount)
        let end = min(touched, sequence.tokens.count / limits.blockSize)
        guard first < end else { return }
        sequence.extendKeys(to: end, blockSize: limits.blockSize, hasher: hasher)
        for index in first..<end where claims[sequence.keys[index]] == nil { claims[sequence.keys[index]] = index }
    }

    /// Whether another sequence computes, in this step or the one in flight, the full block that begins at `position`.
    mutating func isNextBlockClaimed(_ sequence: SequenceState, at position: Int) -> Bool {
        let index = position / limits.blockSize
        guard position % limits.blockSize == 0, index < shareableBlockCount(of: sequence),
            !claims.isEmpty || !claimsInFlight.isEmpty
        else { return false }
        sequence.extendKeys(to: index + 1, blockSize: limits.blockSize, hasher: hasher)
        let key = sequence.keys[index]
        guard claims[key] == index || claimsInFlight[key] == index else { return false }
        totals.sharedWaits += 1
        return true
    }

    private func find(block index: Int, of sequence: SequenceState, parent: UInt64) -> CachedBlock? {
        sequence.extendKeys(to: index + 1, blockSize: limits.blockSize, hasher: hasher)
        return pool.find(sequence.contents(ofBlock: index, parent: parent, blockSize: limits.blockSize))
    }
}
