// One quantized weight of a Hugging Face folder: several tensors that together are a matrix, and its conversion.
//
// The result holds the same values: integers with their scales and zeros in blocks of 32 (`int4`, `int8`), 8-bit floats
// likewise (`e4m3`). Where columns with different scales lie mixed, or a block of 32 is not whole, it is f32, whose
// products of scale and integer are exact.

import Tensors

/// The tensors of a quantized matrix, with checked shapes.
struct QuantizedWeight: Sendable {
    typealias Place = SafetensorsCheckpoint.Place

    /// How codes lie in `codes`.
    enum Packing: Sendable, Equatable {
        /// Words of [columns / (32 / bits), rows]: consecutive columns of a row.
        case columnWords
        /// Words of [columns, rows / 8]: eight rows of a column, even rows first.
        case interleavedRowWords
        /// Words of [rows, columns / (32 / bits)].
        case words(perRow: Int)
        /// Signed bytes of [rows, columns].
        case bytes
        /// E4M3 of [rows, columns].
        case floats
    }

    /// Where the number for a row and a column is: row / rows · rowStride + column / columns · columnStride.
    struct Grid: Sendable {
        let place: Place
        var rows = 1
        var rowStride = 0
        var columns = Int.max
        var columnStride = 0

        func index(_ row: Int, _ column: Int) -> Int { row / rows * rowStride + column / columns * columnStride }
    }

    /// How zeros lie in their tensor.
    enum ZeroPacking: Sendable {
        /// Words along the groups' rows, as the codes of GPTQ; what is stored lacks `added`.
        case rowWords(added: Int)
        /// Words as the codes of AWQ.
        case interleavedRowWords
        /// Words of consecutive rows, [rows / (32 / bits), groups].
        case wordsOfRows
        /// Signed bytes.
        case bytes
    }

    let name: String
    let rows: Int
    let columns: Int
    let bits: Int
    let packing: Packing
    let codes: Place
    let scales: Grid?
    let zeros: (grid: Grid, packing: ZeroPacking)?
    /// The group of each column, where it does not follow from the column. [columns] i32
    private(set) var groupIndex: Place?
    /// Whether the folder wants inputs quantized as they come (`QuantizationConfig`).
    var quantizesInput = false
    /// Whether a zero does not fit a byte.
    private var hasWideZeros = false

    /// What the matrix becomes.
    var dtype: DType {
        let group = scales?.columns ?? .max
        guard columns % 32 == 0, groupIndex == nil, group == .max || group % 32 == 0 else { return .f32 }
        if hasWideZeros { return .f32 }
        return packing == .floats ? .e4m3 : bits == 4 ? .int4 : .int8
    }

    init(
        name: String, rows: Int, columns: Int, bits: Int, packing: Packing, codes: Place, scales: Grid?,
        zeros: (grid: Grid, packing: ZeroPacking)?, groupIndex: Place?
    ) {
        self.name = name
        self.rows = rows
        self.columns = columns
        self.bits = bits
        self.packing = packing
        self.codes = codes
        self.scales = scales
        self.zeros = zeros
        self.groupIndex = groupIndex
    }

    /// Looks at what decides the form: groups in their order need no index, and of 8 bits a zero may be 256.
    mutating func simplify() {
        if hasOrderedGroups { groupIndex = nil }
        if bits == 8, case .rowWords(added: 1)? = zeros?.packing, let place = zeros?.grid.place {
            hasWideZeros = Self.words(place).contains { word in (0..<4).contains { word >> (8 * $0) & 0xFF == 0xFF } }
        }
    }

    // MARK: Conversion

    /// The matrix, or the part of it that `cut` takes, in memory of its own.
    func converted(_ cut: TensorCut? = nil) -> StoredTensor {
        let dtype = dtype
        let rowRanges = cut?.axis == 0 ? cut?.ranges ?? [] : [0..<rows]
        let taken = (cut?.axis == 1 ? cut?.ranges.first : nil) ?? 0..<columns
        let rowCount = rowRanges.reduce(0) { $0 + $1.count }
        let rowBytes = taken.count / dtype.blockElementCount * dtype.blockByteCount
        let memory = unsafe MappedFile(byteCount: rowCount * rowBytes, path: name) { target in
            let scaleValues = scales.map { Self.floats($0.place) } ?? [1]
            let zeroValues = zeros.map { Self.words($0.grid.place) } ?? []
            let groups = groupIndex.map { Self.words($0) }
            var codes = [UInt8](repeating: 0, count: columns)
            for (index, row) in rowRanges.joined().enumerated() {
                fill(&codes, row: row, columns: taken)
                let rowStart = index * rowBytes
                if dtype == .f32 {
                    for column in taken {
                        let place = groups.map { Int($0[column]) * groupWidth } ?? column
                        let scale = scaleValues[scales?.index(row, place) ?? 0]
                        let value =
                            packing == .floats
                            ? StoredTensor.e4m3(codes[column])
                            : Float(Int(codes[column]) - zero(zeroValues, row, place))
                        unsafe target.storeBytes(
                            of: (value * scale).bitPattern.littleEndian,
                            toByteOffset: rowStart + 4 * (column - taken.lowerBound), as: UInt32.self)
                    }
                    continue
                }
                let firstBlock = taken.lowerBound / 32
                for block in firstBlock..<taken.upperBound / 32 {
                    let scale = scaleValues[scales?.index(row, 32 * block) ?? 0]
                    let zero = packing == .floats ? 0 : zero(zeroValues, row, 32 * block)
                    let start = rowStart + (block - firstBlock) * dtype.blockByteCount
                    unsafe Self.store(codes[32 * block..<32 * block + 32], dtype, scale, zero, to: target, at: start)
                }
            }
        }
        var tensor = memory.tensor(name, dtype, shape: [rowCount, taken.count], in: 0..<rowCount * rowBytes)
        tensor.quantizesInput = quantizesInput && dtype == .e4m3
        return tensor
    }

    /// Columns of a group, where `groupIndex` names groups.
    private var groupWidth: Int { scales.map { $0.columns == .max ? columns : $0.columns } ?? columns }

    private static func store(
        _ codes: ArraySlice<UInt8>, _ dtype: DType, _ scale: Float, _ zero: Int,
        to target: UnsafeMutableRawBufferPointer, at start: Int
    ) {
        let hasNaN = dtype == .e4m3 && codes.contains { $0 & 0x7F == 0x7F }
        let bits = (hasNaN ? Float.nan : scale).bitPattern.littleEndian
        unsafe target.storeBytes(of: bits, toByteOffset: start, as: UInt32.self)
        var place = start + 4
        if dtype != .e4m3 {
            unsafe target[place] = UInt8(truncatingIfNeeded: zero)
            place += 1
        }
        let first = codes.startIndex
        if dtype == .int4 {
            for index in 0..<16 { unsafe target[place + index] = codes[first + index] | codes[first + 16 + index] << 4 }
        } else {
            for index in 0..<32 { unsafe target[place + index] = codes[first + index] }
        }
    }

    /// The codes of a row in `range`, without a sign; those of the columns beside it as they come.
    private func fill(_ target: inout [UInt8], row: Int, columns range: Range<Int>) {
        let bytes = unsafe codes.file.bytes
        let start = codes.info.byteRange.lowerBound
        let perWord = 32 / bits
        let mask = UInt32(1) << UInt32(bits) - 1
        func word(_ index: Int) -> UInt32 {
            unsafe UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: start + 4 * index, as: UInt32.self))
        }
        switch packing {
        case .columnWords:
            let first = range.lowerBound / perWord * perWord
            for column in stride(from: first, to: range.upperBound, by: perWord) {
                var value = word(column / perWord * rows + row)
                for index in column..<min(columns, column + perWord) {
                    target[index] = UInt8(truncatingIfNeeded: value & mask)
                    value >>= UInt32(bits)
                }
            }
        case .interleavedRowWords:
            let shift = Self.interleavedShift(row)
            for column in range {
                target[column] = UInt8(truncatingIfNeeded: word(column * (rows / 8) + row / 8) >> shift & mask)
            }
        case .words(let perRow):
            for column in range {
                let shift = UInt32(column % perWord * bits)
                target[column] = UInt8(truncatingIfNeeded: word(row * perRow + column / perWord) >> shift & mask)
            }
        case .bytes: for column in range { target[column] = unsafe bytes[start + row * columns + column] ^ 0x80 }
        case .floats: for column in range { target[column] = unsafe bytes[start + row * columns + column] }
        }
    }

    /// AWQ's order: rows 0, 2, 4, 6, 1, 3, 5 and 7 from the lowest nibble.
    private static func interleavedShift(_ row: Int) -> UInt32 {
        UInt32((row % 8 % 2 * 4 + row % 8 / 2) * 4)
    }

    /// The code that stands for zero at a place; in the middle where none are stored.
    private func zero(_ values: [UInt32], _ row: Int, _ column: Int) -> Int {
        guard let zeros else { return 1 << (bits - 1) }
        let perWord = 32 / bits
        let mask = UInt32(1) << UInt32(bits) - 1
        switch zeros.packing {
        case .rowWords(let added):
            let word = values[zeros.grid.index(row, column)]
            return Int(word >> UInt32(row % perWord * bits) & mask) + added
        case .interleavedRowWords:
            return Int(values[zeros.grid.index(row, column)] >> Self.interleavedShift(row) & mask)
        case .wordsOfRows:
            return Int(values[zeros.grid.index(row, column)] >> UInt32(row % perWord * bits) & mask)
        case .bytes:
            return Int(Int8(truncatingIfNeeded: values[zeros.grid.index(row, column)])) + 1 << (bits - 1)
        }
    }

    /// A tensor's elements as floats, which is exact for the types that scales have.
    private static func floats(_ place: Place) -> [Float] {
        let (info, bytes) = unsafe (place.info, place.file.bytes)
        return stride(from: info.byteRange.lowerBound, to: info.byteRange.upperBound, by: info.type.byteCount).map {
            switch info.type {
            case .f32:
                Float(bitPattern: UInt32(littleEndian: unsafe bytes.loadUnaligned(fromByteOffset: $0, as: UInt32.self)))
            case .e8m0: unsafe bytes[$0] == 0 ? 0x1p-127 : Float(bitPattern: UInt32(bytes[$0]) << 23)
            default:
                unsafe Self.half(
                    UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: $0, as: UInt16.self)), info.type)
            }
        }
    }

    private static func half(_ bits: UInt16, _ type: SafetensorsType) -> Float {
        type == .bf16 ? Float(bitPattern: UInt32(bits) << 16) : Float(Float16(bitPattern: bits))
    }

    /// A tensor's elements as 32-bit words; signed bytes are widened.
    private static func words(_ place: Place) -> [UInt32] {
        let (info, bytes) = unsafe (place.info, place.file.bytes)
        return stride(from: info.byteRange.lowerBound, to: info.byteRange.upperBound, by: info.type.byteCount).map {
            info.type.byteCount == 1
                ? UInt32(bitPattern: Int32(Int8(bitPattern: unsafe bytes[$0])))
                : unsafe UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0, as: UInt32.self))
        }
    }

    /// Throws when a column names a group that is not there.
    func requireGroups(file: String) throws(CheckpointError) {
        guard let groupIndex else { return }
        let count = columns / groupWidth
        guard Self.words(groupIndex).allSatisfy({ $0 < UInt32(count) }) else {
            throw .malformed(
                file: file, offset: 8, field: "tensor \(printable(groupIndex.info.name))",
                actual: "naming a group that is not there", expected: "groups 0 to \(count - 1)")
        }
    }

    /// Whether `groupIndex` says no more than that columns follow their groups.
    private var hasOrderedGroups: Bool {
        guard let groupIndex else { return true }
        return Self.words(groupIndex).enumerated().allSatisfy { Int($1) == $0 / groupWidth }
    }
}
