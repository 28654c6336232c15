// How vectors are written: as lists of numbers, or as the base64 of their bytes, which the openai SDK asks for.

import FoundationEssentials
import NIOCore

/// What stands at the top of an answer made of vectors.
struct PooledHead: Sendable {
    /// `embd-…`, `pool-…`, `score-…` or `rerank-…`.
    let id: String
    /// The model, by the name the client used.
    let model: String
    /// Seconds since 1970.
    let created = WallClock.seconds

    /// The beginning of the answer.
    /// - Parameter isList: whether it has an `object` and a `created`.
    func opening(isList: Bool) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeStaticString("{\"id\":")
        buffer.writeJSON(id)
        if isList {
            buffer.writeStaticString(",\"object\":\"list\",\"created\":")
            buffer.writeJSON(created)
        }
        buffer.writeStaticString(",\"model\":")
        buffer.writeJSON(model)
        return buffer
    }
}

/// An answer of /v1/embeddings or /pooling.
struct VectorFormat: Sendable {
    let head: PooledHead
    let isBase64: Bool
    let isPooling: Bool
    let usage: Usage

    /// The whole answer.
    func body(_ vectors: [[Float]]) -> ByteBuffer {
        var buffer = head.opening(isList: true)
        buffer.writeStaticString(",\"data\":[")
        buffer.writeList(vectors.enumerated()) { buffer, vector in
            buffer.writeStaticString("{\"index\":")
            buffer.writeJSON(vector.offset)
            buffer.writeStaticString(
                isPooling ? ",\"object\":\"pooling\",\"data\":" : ",\"object\":\"embedding\",\"embedding\":")
            write(vector.element, to: &buffer)
            buffer.writeStaticString("}")
        }
        buffer.writeStaticString("],\"usage\":")
        usage.write(to: &buffer)
        buffer.writeStaticString("}")
        return buffer
    }

    private func write(_ vector: [Float], to buffer: inout ByteBuffer) {
        guard isBase64 else {
            buffer.writeStaticString("[")
            buffer.writeList(vector) { $0.writeString($1.description) }
            buffer.writeStaticString("]")
            return
        }
        // 32-bit floats, the lowest byte first.
        var bytes = Data(capacity: 4 * vector.count)
        for value in vector {
            let bits = value.bitPattern
            bytes.append(contentsOf: [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: bits >> $0) })
        }
        buffer.writeStaticString("\"")
        buffer.writeString(bytes.base64EncodedString())
        buffer.writeStaticString("\"")
    }
}
