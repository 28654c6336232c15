// Thousands of damaged files, made from a seed: each is refused in a sentence with a place, or is a model after all.
//
// Never a crash, never a hang. A failure prints the seed and the number of the case.

import Checkpoints
import Tensors
import Testing

/// How damaged files fared.
private struct Tally {
    var refused = 0
    var accepted = 0
    var slowest = Duration.zero
}

@Suite struct MutationTests {
    @Test func `2,000 mutations of a small file are refused or harmless`() {
        var writer = GGUFWriter.tinyLlama()
        let original = writer.write()
        let headerByteCount = writer.fields.map { $0.offset + $0.size }.max() ?? 0
        var generator = SplitMix64(state: 0xA905)
        var tally = Tally()
        for index in 0..<2_000 {
            var bytes = original
            switch index % 5 {
            case 0, 1:
                let field = writer.fields[generator.below(writer.fields.count)]
                let changed = mutated(Array(bytes[field.offset..<field.offset + field.size]), &generator)
                bytes.replaceSubrange(field.offset..<field.offset + field.size, with: changed)
            case 2:
                for _ in 0...generator.below(8) { bytes[generator.below(headerByteCount)] ^= 1 << generator.below(8) }
            case 3:
                // Every field's boundary in turn, then anywhere.
                let field = index / 5
                bytes.removeLast(
                    bytes.count
                        - (field < writer.fields.count ? writer.fields[field].offset : generator.below(bytes.count)))
            default:
                let position = generator.below(headerByteCount)
                let count = 1 + generator.below(16)
                if generator.below(2) == 0 {
                    bytes.insert(contentsOf: (0..<count).map { _ in UInt8(generator.below(256)) }, at: position)
                } else {
                    bytes.removeSubrange(position..<min(position + count, bytes.count))
                }
            }
            examine(MappedFile(copying: bytes, path: "test.gguf"), case: index, &tally)
        }
        #expect(tally.refused + tally.accepted == 2_000)
        #expect(tally.refused > 1_600, "mutations should hit something that is checked")
    }

    @Test func `2,000 mutations of the real model are refused or harmless`() throws {
        let scratch = try Scratch(mapping: realModelPath())
        let file = try GGUFFile(scratch.file())
        let fields = headerFields(of: file)
        let headerByteCount = file.tensors.map(\.byteRange.lowerBound).min() ?? 0
        var generator = SplitMix64(state: 0xA906)
        var tally = Tally()
        for index in 0..<2_000 {
            var restored: [(Int, UInt8)] = []
            func set(_ position: Int, _ byte: UInt8) {
                restored.append((position, scratch[position]))
                scratch[position] = byte
            }
            var count = scratch.count
            switch index % 4 {
            case 0, 1:
                let field = fields[generator.below(fields.count)]
                let changed = mutated((0..<field.size).map { scratch[field.offset + $0] }, &generator)
                for (place, byte) in changed.enumerated() { set(field.offset + place, byte) }
            case 2:
                // Half of the flips go where the vocabulary is not.
                let range = generator.below(2) == 0 ? headerByteCount : 2_048
                for _ in 0...generator.below(8) {
                    let position = generator.below(range)
                    set(position, scratch[position] ^ 1 << generator.below(8))
                }
            default:
                count =
                    generator.below(2) == 0
                    ? fields[generator.below(fields.count)].offset : generator.below(scratch.count / 4096) * 4096
            }
            examine(scratch.file(count: count), case: index, &tally)
            for (position, byte) in restored.reversed() { scratch[position] = byte }
        }
        #expect(tally.refused + tally.accepted == 2_000)
        #expect(tally.refused > 1_200, "mutations should hit something that is checked")
        #expect(try GGUFFile(scratch.file()).tensors == file.tensors, "the mapping was restored")
    }

    /// Loads a damaged file as far as it goes and checks what comes out.
    private func examine(_ file: MappedFile, case index: Int, _ tally: inout Tally) {
        let start = ContinuousClock.now
        do {
            let gguf = try GGUFFile(file)
            let config = try ModelConfig(gguf)
            let tokenizer = try TokenizerMetadata(gguf, vocabSize: config.vocabSize)
            _ = try GenerationDefaults(gguf)
            let tensors = try readLlamaWeights(gguf, config)
            tally.accepted += 1
            #expect(config.headCount % config.kvHeadCount == 0, "case \(index)")
            #expect(config.headDim % 2 == 0 && config.ropeDimension <= config.headDim, "case \(index)")
            #expect(tokenizer.tokens.count <= config.vocabSize, "case \(index)")
            for tensor in tensors {
                #expect(tensor.dequantizedRow(tensor.storedRowCount - 1).count == tensor.shape.last, "case \(index)")
            }
        } catch let error as CheckpointError {
            tally.refused += 1
            #expect(error.field != nil, "case \(index): \(error)")
            switch error {
            case .missingMetadata, .missingTensor, .unreadTensors: break
            default: #expect(error.offset != nil, "case \(index): \(error)")
            }
            #expect(error.description.utf8.count < 1_024, "case \(index): \(error)")
        } catch {
            Issue.record("case \(index): not a CheckpointError: \(error)")
        }
        let elapsed = ContinuousClock.now - start
        tally.slowest = max(tally.slowest, elapsed)
        #expect(elapsed < .seconds(1), "case \(index)")
    }

    /// A little-endian field made 0, greatest, one off, of the other sign, or random.
    private func mutated(_ field: [UInt8], _ generator: inout SplitMix64) -> [UInt8] {
        var value = field.reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
        switch generator.below(7) {
        case 0: value = 0
        case 1: value = .max
        case 2: value &+= 1
        case 3: value &-= 1
        case 4: value ^= 1 << UInt64(field.count * 8 - 1)
        case 5: value = value &* 2
        default: value = generator.next() >> UInt64(generator.below(64))
        }
        return field.indices.map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
    }

    /// Where the numbers of a real header are: counts, lengths, types, values, extents and offsets.
    private func headerFields(of file: GGUFFile) -> [GGUFWriter.Field] {
        typealias Field = GGUFWriter.Field
        var fields = [(0, 4), (4, 4), (8, 8), (16, 8)].map { Field(name: "header", offset: $0, size: $1) }
        for key in file.keys {
            guard let entry = file[key: key] else { continue }
            fields.append(Field(name: key, offset: entry.offset - 4 - key.utf8.count - 8, size: 8))
            fields.append(Field(name: key, offset: entry.offset - 4, size: 4))
            fields.append(Field(name: key, offset: entry.offset, size: 4))
            if case .array = entry.value { fields.append(Field(name: key, offset: entry.offset + 4, size: 8)) }
        }
        for tensor in file.tensors {
            var offset = tensor.infoOffset
            fields.append(Field(name: tensor.name, offset: offset, size: 8))
            offset += 8 + tensor.name.utf8.count
            fields.append(Field(name: tensor.name, offset: offset, size: 4))
            offset += 4
            for _ in tensor.shape {
                fields.append(Field(name: tensor.name, offset: offset, size: 8))
                offset += 8
            }
            fields.append(Field(name: tensor.name, offset: offset, size: 4))
            fields.append(Field(name: tensor.name, offset: offset + 4, size: 8))
        }
        return fields
    }
}

extension SplitMix64 {
    /// A number from 0 up to, not including, `bound`.
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
}
