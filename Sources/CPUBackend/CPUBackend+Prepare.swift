// Loading: from rows as they lie in the file to the interleaved layout the kernels multiply.

import CPUKernels
import Tensors

extension CPUBackend {
    /// Consecutive parts that share a storage format.
    private struct Segment {
        var format: Int
        var firstRow: Int
        var rowCount: Int
        var parts: [StoredTensor]
    }

    package func prepare(_ parts: [StoredTensor]) throws(BackendError) -> PreparedWeight {
        let segments = try segments(of: parts)
        guard let last = segments.last, let columns = parts.first?.shape.last else {
            throw .unsupported(operation: "a weight", reason: "it has no rows")
        }
        let names = parts.map(\.name).joined(separator: ", ")
        var byteCount = 0
        for segment in segments {
            byteCount += Int(
                unsafe cpu_segment_bytes(
                    context, Int32(segment.format), Int64(segment.rowCount), Int64(columns)))
        }
        let buffer = try map(byteCount: byteCount, isStreamed: true, purpose: "weights (\(names))")
        let packed = UnsafeMutableBufferPointer<cpu_segment>.allocate(capacity: segments.count)
        var offset: UInt = 0
        for (index, segment) in segments.enumerated() {
            unsafe packed.initializeElement(
                at: index,
                to: cpu_segment(
                    format: Int32(segment.format), rows: Int64(segment.rowCount), first_row: Int64(segment.firstRow),
                    data: UnsafeMutablePointer(bitPattern: buffer.address + offset)))
            unsafe pack(segment, columns: columns, into: &packed[index])
            offset += UInt(
                unsafe cpu_segment_bytes(
                    context, Int32(segment.format), Int64(segment.rowCount), Int64(columns)))
        }
        let rowCount = last.firstRow + last.rowCount
        let weight = unsafe CPUWeight(rowCount: rowCount, columnCount: columns, buffer: buffer, segments: packed)
        return PreparedWeight(
            rowCount: rowCount, columnCount: columns, byteCount: buffer.byteCount, storage: weight)
    }

    private func pack(_ segment: Segment, columns: Int, into target: inout cpu_segment) {
        var rowOffset = 0
        for part in segment.parts {
            unsafe cpu_pack_rows(
                context, &target, Int64(columns), part.bytes.baseAddress, Int32(Self.format(of: part.dtype) ?? 0),
                Int64(rowOffset), Int64(part.shape[0]))
            rowOffset += part.shape[0]
        }
    }

    /// Checks the parts and merges neighbours. A part joins its predecessor only at a whole row group.
    private func segments(of parts: [StoredTensor]) throws(BackendError) -> [Segment] {
        let rowGroup = Int(unsafe cpu_row_group(context))
        var result: [Segment] = []
        var firstRow = 0
        for part in parts {
            let operation = "the weight \(part.name)"
            guard part.shape.count == 2, let columns = parts.first?.shape.last, part.shape[1] == columns,
                part.shape[0] > 0, columns > 0
            else {
                throw .unsupported(operation: operation, reason: "its shape \(part.shape) is not [rows, columns]")
            }
            guard let stored = Self.format(of: part.dtype) else {
                throw .unsupported(operation: operation, reason: "its type \(part.dtype.rawValue) is not a weight's")
            }
            let storedBytes = unsafe part.bytes.count
            guard let rowBytes = part.dtype.rowByteCount(elementCount: columns),
                Self.product(rowBytes, part.shape[0]) == storedBytes
            else {
                throw .unsupported(
                    operation: operation,
                    reason: "\(storedBytes) bytes are not \(part.shape) of \(part.dtype.rawValue)")
            }
            let format = precision == .float32 ? CPU_WEIGHT_F32 : packedFormat(of: stored, columns: columns)
            if let last = result.last, last.format == format, last.rowCount % rowGroup == 0 {
                result[result.count - 1].rowCount += part.shape[0]
                result[result.count - 1].parts.append(part)
            } else {
                result.append(Segment(format: format, firstRow: firstRow, rowCount: part.shape[0], parts: [part]))
            }
            firstRow += part.shape[0]
        }
        return result
    }

    /// The format whose kernels multiply what is stored as `format`; it holds the same values.
    private func packedFormat(of format: Int, columns: Int) -> Int {
        switch format {
        case CPU_WEIGHT_Q3_K: CPU_WEIGHT_Q6_K
        case CPU_WEIGHT_IQ4_NL: CPU_WEIGHT_Q8_0
        case CPU_WEIGHT_BF16 where instructionSet == .avx512BF16 && columns.isMultiple(of: 32): CPU_WEIGHT_BF16_PAIRS
        default: format
        }
    }

    private static func format(of dtype: DType) -> Int? {
        switch dtype {
        case .f32: CPU_WEIGHT_F32
        case .f16: CPU_WEIGHT_F16
        case .bf16: CPU_WEIGHT_BF16
        case .q8_0: CPU_WEIGHT_Q8_0
        case .q4_0: CPU_WEIGHT_Q4_0
        case .q4_1: CPU_WEIGHT_Q4_1
        case .q5_0: CPU_WEIGHT_Q5_0
        case .q5_1: CPU_WEIGHT_Q5_1
        case .q2_k: CPU_WEIGHT_Q2_K
        case .q3_k: CPU_WEIGHT_Q3_K
        case .q4_k: CPU_WEIGHT_Q4_K
        case .q5_k: CPU_WEIGHT_Q5_K
        case .q6_k: CPU_WEIGHT_Q6_K
        case .iq4_nl: CPU_WEIGHT_IQ4_NL
        case .iq4_xs: CPU_WEIGHT_IQ4_XS
        case .mxfp4: CPU_WEIGHT_MXFP4
        case .int4: CPU_WEIGHT_INT4
        case .int8: CPU_WEIGHT_INT8
        case .e4m3: CPU_WEIGHT_E4M3
        case .i32: nil
        }
    }
}
