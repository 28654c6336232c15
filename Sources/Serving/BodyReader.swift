// Reads a request's body within its limits and makes typed fields of it. What is declared is checked before a byte is
// read; what arrives is counted.

import HTTPTypes
import Hummingbird
import Synchronization

/// Reads the bodies of all requests of one server.
final class BodyReader: Sendable {
    private let limit: Int
    private let totalLimit: Int
    private let total = Mutex(0)
    private let threads: TokenizerThreads
    /// Bodies above this are parsed on the tokenizer's threads.
    private static let smallBytes = 64 << 10

    init(limit: Int, totalLimit: Int, threads: TokenizerThreads) {
        self.limit = limit
        self.totalLimit = totalLimit
        self.threads = threads
    }

    /// The members of the JSON object that is the body.
    /// - Throws: `ServingError`, or what the connection throws when it breaks.
    func fields(of request: Request) async throws -> JSONFields {
        try checkContentType(request.headers[.contentType])
        let declared = request.headers[.contentLength].flatMap { Int($0) }.map { max(0, $0) }
        if let declared, declared > limit { throw ServingError.bodyTooLarge(limit: limit) }
        let charge = declared ?? limit
        try reserve(charge)
        defer { total.withLock { $0 -= charge } }

        var bytes: [UInt8] = []
        bytes.reserveCapacity(declared ?? 0)
        for try await part in request.body {
            guard bytes.count + part.readableBytes <= limit else { throw ServingError.bodyTooLarge(limit: limit) }
            bytes.append(contentsOf: part.readableBytesView)
        }
        guard bytes.count > Self.smallBytes else { return try JSONFields(body: bytes) }
        return try await threads.run { [bytes] () throws(ServingError) in try JSONFields(body: bytes) }
    }

    private func reserve(_ charge: Int) throws(ServingError) {
        let isAdmitted = total.withLock { total in
            guard total + charge <= totalLimit else { return false }
            total += charge
            return true
        }
        guard isAdmitted else { throw .tooManyBodies(limit: totalLimit) }
    }

    private func checkContentType(_ value: String?) throws(ServingError) {
        let mediaType = value?.prefix { $0 != ";" }.lowercased().filter { $0 != " " && $0 != "\t" }
        guard mediaType == "application/json" else { throw .unsupportedMediaType(value) }
    }
}
