// Which tensors of a Hugging Face folder are parts of quantized weights, by the names and shapes that the tools write.
//
// Everything that conversion relies on is checked here, when the folder is opened, so that converting cannot fail.

import Tensors

/// The quantized weights among a folder's tensors.
struct QuantizedWeights: Sendable {
    typealias Place = SafetensorsCheckpoint.Place

    /// By the name of the weight they are, as an unquantized folder has it.
    private(set) var weights: [String: QuantizedWeight] = [:]
    /// Four-bit floats with a power of two for each 32, stacked matrices of experts.
    private(set) var experts: [String: FourBitExperts] = [:]
    /// Tensors that are parts, or that only matter to activations.
    private(set) var parts: Set<String> = []

    private let places: [String: Place]
    private let config: QuantizationConfig?

    /// Scales of activations and caches, which are computed in wider types here.
    private static let ignoredSuffixes = [
        ".input_scale", ".input_zero_point", ".output_scale", ".k_scale", ".v_scale", ".q_scale", ".prob_scale",
    ]

    init(_ places: [String: Place], config: QuantizationConfig?) throws(CheckpointError) {
        self.places = places
        self.config = config
        for (name, place) in places {
            if let prefix = name.removing(suffix: ".qweight") {
                try add(try wordsAlongInputs(prefix, place), as: prefix + ".weight")
            } else if let prefix = name.removing(suffix: ".weight_packed") {
                try add(try packed(prefix, place), as: prefix + ".weight")
            } else if let prefix = name.removing(suffix: ".weight"), [.e4m3, .i8].contains(place.info.type) {
                try add(try bytes(prefix, place), as: name)
            } else if let prefix = name.removing(suffix: "_blocks"), let scales = places[prefix + "_scales"] {
                parts.formUnion([name, prefix + "_scales"])
                experts[prefix] = try FourBitExperts(name: prefix, blocks: place, scales: scales)
            } else if Self.ignoredSuffixes.contains(where: name.hasSuffix) {
                parts.insert(name)
            }
        }
        for name in weights.keys where places[name] != nil && !parts.contains(name) {
            throw malformed(name, "there as it is and quantized", expected: "one of them")
        }
    }

    private mutating func add(_ weight: QuantizedWeight, as name: String) throws(CheckpointError) {
        weights[name] = weight
        parts.insert(weight.codes.info.name)
        for place in [weight.scales?.place, weight.zeros?.grid.place, weight.groupIndex] {
            if let place { parts.insert(place.info.name) }
        }
        try weight.requireGroups(file: weight.codes.file.path)
    }

    // MARK: GPTQ and AWQ

    private mutating func wordsAlongInputs(_ prefix: String, _ codes: Place) throws(CheckpointError) -> QuantizedWeight
    {
        guard let config, config.method == .gptq || config.method == .awq else {
            throw .missingMetadata(file: codes.file.path, key: "quantization_config with quant_method gptq or awq")
        }
        let perWord = 32 / config.bits
        let shape = try self.shape(codes, types: [.i32, .u32], count: 2)
        let isGPTQ = config.method == .gptq
        let (rows, columns) = isGPTQ ? (shape[1], shape[0] * perWord) : (shape[1] * perWord, shape[0])
        let scales = try part(prefix + ".scales", of: codes)
        let groups = try self.shape(scales, types: [.f16, .bf16, .f32], count: 2).first ?? 0
        guard groups > 0, columns % groups == 0, scales.info.shape == [groups, rows], rows % perWord == 0 else {
            throw malformed(
                prefix + ".scales", "of \(scales.info.shape)", expected: "[groups, \(rows)], groups dividing \(columns)"
            )
        }
        let zeros = try part(prefix + ".qzeros", of: codes)
        guard try self.shape(zeros, types: [.i32, .u32], count: 2) == [groups, rows / perWord] else {
            throw malformed(
                prefix + ".qzeros", "of \(zeros.info.shape)", expected: "[\(groups), \(rows / perWord)]")
        }
        let group = columns / groups
        var weight = QuantizedWeight(
            name: prefix + ".weight", rows: rows, columns: columns, bits: config.bits,
            packing: isGPTQ ? .columnWords : .interleavedRowWords, codes: codes,
            scales: .init(place: scales, rowStride: 1, columns: group, columnStride: rows),
            zeros: (
                .init(place: zeros, rows: perWord, rowStride: 1, columns: group, columnStride: rows / perWord),
                isGPTQ ? .rowWords(added: config.storesZerosMinusOne ? 1 : 0) : .interleavedRowWords
            ),
            groupIndex: try groupIndex(prefix + ".g_idx", columns: columns))
        weight.simplify()
        return weight
    }

    /// The group of each column, if the folder says it.
    private mutating func groupIndex(_ name: String, columns: Int) throws(CheckpointError) -> Place? {
        guard let place = places[name] else { return nil }
        guard try shape(place, types: [.i32, .u32], count: 1) == [columns] else {
            throw malformed(name, "of \(place.info.shape)", expected: "[\(columns)]")
        }
        parts.insert(name)
        return place
    }

    // MARK: compressed-tensors and FP8

    private mutating func packed(_ prefix: String, _ codes: Place) throws(CheckpointError) -> QuantizedWeight {
        let shape = try self.shape(codes, types: [.i32, .u32], count: 2)
        let shapePlace = try part(prefix + ".weight_shape", of: codes)
        parts.insert(prefix + ".weight_shape")
        let matrix = shapePlace.integers
        guard matrix.count == 2, matrix[0] == shape[0], (1...Int(Int32.max)).contains(matrix[1]),
            let bits = [4, 8].first(where: { shape[1] == (matrix[1] + 32 / $0 - 1) / (32 / $0) })
        else {
            throw malformed(
                prefix + ".weight_packed", "of \(shape)",
                expected: "[rows, words], 8 columns of 4 bits or 4 of 8 bits in a word, for a matrix of \(matrix)")
        }
        let (rows, columns) = (matrix[0], matrix[1])
        let scales = try grid(
            try part(prefix + ".weight_scale", of: codes), rows: rows, columns: columns, types: [.f16, .bf16, .f32])
        var zeros: (grid: QuantizedWeight.Grid, packing: QuantizedWeight.ZeroPacking)?
        if let place = places[prefix + ".weight_zero_point"] {
            let perWord = 32 / bits
            let groups = scales.columns == .max ? 1 : columns / scales.columns
            guard try self.shape(place, types: [.i32, .u32], count: 2) == [(rows + perWord - 1) / perWord, groups]
            else {
                throw malformed(
                    prefix + ".weight_zero_point", "\(place.info.type.rawValue) of \(place.info.shape)",
                    expected: "I32 of [\((rows + perWord - 1) / perWord), \(groups)]")
            }
            zeros = (
                .init(place: place, rows: perWord, rowStride: groups, columns: scales.columns, columnStride: 1),
                .wordsOfRows
            )
        }
        var weight = QuantizedWeight(
            name: prefix + ".weight", rows: rows, columns: columns, bits: bits, packing: .words(perRow: shape[1]),
            codes: codes, scales: scales, zeros: zeros,
            groupIndex: try groupIndex(prefix + ".weight_g_idx", columns: columns))
        weight.simplify()
        return weight
    }

    private func bytes(_ prefix: String, _ codes: Place) throws(CheckpointError) -> QuantizedWeight {
        let shape = try self.shape(codes, types: [.e4m3, .i8], count: 2)
        let (rows, columns) = (shape[0], shape[1])
        guard rows > 0, columns > 0 else {
            throw malformed(prefix + ".weight", "of \(shape)", expected: "a matrix with elements")
        }
        let place = places[prefix + ".weight_scale_inv"] ?? places[prefix + ".weight_scale"]
        guard let place else {
            throw .missingTensor(file: codes.file.path, name: prefix + ".weight_scale", similar: [])
        }
        let scales = try grid(place, rows: rows, columns: columns, types: [.f16, .bf16, .f32, .e8m0])
        var zeros: (grid: QuantizedWeight.Grid, packing: QuantizedWeight.ZeroPacking)?
        if let place = places[prefix + ".weight_zero_point"] {
            guard codes.info.type == .i8, place.info.shape == scales.place.info.shape else {
                throw malformed(
                    prefix + ".weight_zero_point", "of \(place.info.shape)", expected: "\(scales.place.info.shape)")
            }
            zeros = (try grid(place, rows: rows, columns: columns, types: [.i8]), .bytes)
        }
        var weight = QuantizedWeight(
            name: prefix + ".weight", rows: rows, columns: columns, bits: 8,
            packing: codes.info.type == .i8 ? .bytes : .floats, codes: codes, scales: scales, zeros: zeros,
            groupIndex: nil)
        weight.quantizesInput = config?.quantizesInputs ?? false
        return weight
    }

    /// Where scales are that lie as the rows do: one of all, of each row, of groups of a row, or of blocks.
    private func grid(
        _ place: Place, rows: Int, columns: Int, types: [SafetensorsType]
    ) throws(CheckpointError) -> QuantizedWeight.Grid {
        guard types.contains(place.info.type) else { throw wrongType(place, types) }
        let block = config?.blockShape ?? QuantizationConfig.implied.blockShape
        let blocks = [(rows + block[0] - 1) / block[0], (columns + block[1] - 1) / block[1]]
        let shape = place.info.shape
        if shape.allSatisfy({ $0 == 1 }) { return .init(place: place) }
        if shape == [rows] || shape == [rows, 1] { return .init(place: place, rowStride: 1) }
        if shape.count == 2, shape[0] == rows, shape[1] > 0, columns % shape[1] == 0 {
            return .init(place: place, rowStride: shape[1], columns: columns / shape[1], columnStride: 1)
        }
        guard shape == blocks else {
            throw malformed(
                place.info.name, "of \(shape)",
                expected: "one number, \(rows), [\(rows), groups] or \(blocks), blocks of \(block)")
        }
        return .init(place: place, rows: block[0], rowStride: blocks[1], columns: block[1], columnStride: 1)
    }

    // MARK: Checks

    private func part(_ name: String, of weight: Place) throws(CheckpointError) -> Place {
        guard let place = places[name] else {
            throw .missingTensor(file: weight.file.path, name: name, similar: [])
        }
        return place
    }

    private func shape(_ place: Place, types: [SafetensorsType], count: Int) throws(CheckpointError) -> [Int] {
        guard types.contains(place.info.type) else { throw wrongType(place, types) }
        guard place.info.shape.count == count, place.info.shape.allSatisfy({ $0 > 0 }) else {
            throw malformed(place.info.name, "of \(place.info.shape)", expected: "\(count) extents above 0")
        }
        return place.info.shape
    }

    private func wrongType(_ place: Place, _ types: [SafetensorsType]) -> CheckpointError {
        malformed(
            place.info.name, place.info.type.rawValue, expected: types.map(\.rawValue).joined(separator: ", "))
    }

    private func malformed(_ name: String, _ actual: String, expected: String) -> CheckpointError {
        .malformed(
            file: places[name]?.file.path ?? "", offset: 8, field: "tensor \(printable(name))", actual: actual,
            expected: expected)
    }
}

extension String {
    /// What comes before `suffix`, or nil where it does not end in it.
    fileprivate func removing(suffix: String) -> String? { hasSuffix(suffix) ? String(dropLast(suffix.count)) : nil }
}

extension SafetensorsCheckpoint.Place {
    /// The elements of a tensor of I64 or I32, the first few of them; those out of range as −1.
    fileprivate var integers: [Int] {
        let bytes = unsafe file.bytes
        let size = info.type.byteCount
        return (0..<min(8, info.byteRange.count / size)).map { index in
            let offset = info.byteRange.lowerBound + index * size
            return switch info.type {
            case .i64: Int(unsafe bytes.loadUnaligned(fromByteOffset: offset, as: Int64.self))
            case .i32: Int(unsafe bytes.loadUnaligned(fromByteOffset: offset, as: Int32.self))
            default: -1
            }
        }
    }
}

/// Experts' matrices of four-bit floats, as GPT-OSS has them.
struct FourBitExperts: Sendable {
    let name: String
    private let blocks: SafetensorsCheckpoint.Place
    private let scales: SafetensorsCheckpoint.Place

    /// - Parameters:
    ///   - blocks: bytes of [experts, rows, groups, 16], two columns each, the lower half first.
    ///   - scales: exponents, [experts, rows, groups].
    init(
        name: String, blocks: SafetensorsCheckpoint.Place, scales: SafetensorsCheckpoint.Place
    ) throws(CheckpointError) {
        let shape = blocks.info.shape
        guard blocks.info.type == .u8, scales.info.type == .u8, shape.count == 4, shape[3] == 16,
            scales.info.shape == Array(shape.prefix(3)), shape.allSatisfy({ $0 > 0 })
        else {
            throw .malformed(
                file: blocks.file.path, offset: 8, field: "tensor \(printable(blocks.info.name))",
                actual: "\(blocks.info.type.rawValue) of \(shape), its scales \(scales.info.shape)",
                expected: "U8 of [experts, rows, groups, 16] and [experts, rows, groups]")
        }
        self.name = name
        self.blocks = blocks
        self.scales = scales
    }

    /// [experts, rows, 32 · groups]
    var shape: [Int] {
        let stored = scales.info.shape
        return [stored[0], stored[1], 32 * stored[2]]
    }

    /// The stack, or the part of it that `cut` takes in whole blocks, as GGUF stores the same numbers.
    func converted(_ cut: TensorCut? = nil) -> StoredTensor {
        let (rowCount, groupCount) = (shape[1], shape[2] / 32)
        let experts = cut?.indices(of: 0, extent: shape[0]) ?? Array(0..<shape[0])
        let rows = cut?.indices(of: 1, extent: rowCount) ?? Array(0..<rowCount)
        let columns = cut?.indices(of: 2, extent: shape[2]) ?? Array(0..<shape[2])
        let groups = columns.filter { $0 % 32 == 0 }.map { $0 / 32 }
        let count = experts.count * rows.count * groups.count
        let memory = unsafe MappedFile(byteCount: 17 * count, path: name) { target in
            var place = 0
            for expert in experts {
                for row in rows {
                    for group in groups {
                        let block = (expert * rowCount + row) * groupCount + group
                        unsafe convert(block, to: target, at: place)
                        place += 17
                    }
                }
            }
        }
        return memory.tensor(
            name, .mxfp4, shape: [experts.count, rows.count, 32 * groups.count], in: 0..<17 * count)
    }

    private func convert(_ block: Int, to target: UnsafeMutableRawBufferPointer, at place: Int) {
        let (source, exponents) = unsafe (blocks.file.bytes, scales.file.bytes)
        unsafe target[place] = unsafe exponents[scales.info.byteRange.lowerBound + block]
        let start = blocks.info.byteRange.lowerBound + 16 * block
        for index in 0..<16 {
            // Columns index and 16 + index; the file has neighbours in one byte.
            let shift = UInt8(index % 2 * 4)
            let low = unsafe source[start + index / 2] >> shift & 15
            let high = unsafe source[start + 8 + index / 2] >> shift & 15
            unsafe target[place + 1 + index] = low | high << 4
        }
    }
}
