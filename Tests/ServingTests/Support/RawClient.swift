// A client that sees bytes: it sends what it is told, also what no HTTP library would, and can leave in every way there
// is: close, reset, half-close, or stop reading.

import NIOCore
import NIOPosix

/// One connection to a test server.
final class RawClient {
    /// A response, with its body put together.
    struct Answer: Sendable {
        let status: Int
        let headers: [String: String]
        let body: String
    }

    struct Closed: Error {}

    private let channel: any Channel
    private var incoming: AsyncStream<ByteBuffer>.Iterator
    private var buffer: [UInt8] = []

    private init(channel: any Channel, incoming: AsyncStream<ByteBuffer>) {
        self.channel = channel
        self.incoming = incoming.makeAsyncIterator()
    }

    static func connect(port: Int, reads: Bool = true) async throws -> RawClient {
        let (stream, continuation) = AsyncStream.makeStream(of: ByteBuffer.self)
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.autoRead, value: reads)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Collector(continuation))
                }
            }
            .connect(host: "127.0.0.1", port: port).get()
        return RawClient(channel: channel, incoming: stream)
    }

    private final class Collector: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let continuation: AsyncStream<ByteBuffer>.Continuation
        init(_ continuation: AsyncStream<ByteBuffer>.Continuation) { self.continuation = continuation }
        func channelRead(context: ChannelHandlerContext, data: NIOAny) { continuation.yield(unwrapInboundIn(data)) }
        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            if case .inputClosed? = event as? ChannelEvent { continuation.finish() }
        }
        func channelInactive(context: ChannelHandlerContext) { continuation.finish() }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { continuation.finish() }
    }

    // MARK: Sending

    func send(_ text: String) async throws { try await channel.writeAndFlush(ByteBuffer(string: text)).get() }

    /// Sends a POST with a JSON body.
    func post(_ path: String, _ body: String, headers: String = "") async throws {
        try await send(
            "POST \(path) HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
                + "Content-Length: \(body.utf8.count)\r\n\(headers)\r\n\(body)")
    }

    func get(_ path: String) async throws { try await send("GET \(path) HTTP/1.1\r\nHost: test\r\n\r\n") }

    func close() async throws { try await channel.close() }
    func halfClose() async throws { try await channel.close(mode: .output) }

    /// Closes with a reset instead of a FIN.
    func reset() async throws {
        let options = channel as? any SocketOptionProvider
        try await options?.setSoLinger(linger(l_onoff: 1, l_linger: 0)).get()
        try await channel.close()
    }

    // MARK: Receiving

    /// Waits for `text` to arrive.
    func wait(for text: String) async throws {
        let wanted = Array(text.utf8)
        var searched = 0
        while !buffer[searched...].contains(wanted) {
            searched = max(0, buffer.count - wanted.count)
            try await receive()
        }
    }

    /// Everything until the server closes.
    func remainder() async -> String {
        while let part = await incoming.next() { buffer.append(contentsOf: part.readableBytesView) }
        defer { buffer.removeAll() }
        return String(decoding: buffer, as: UTF8.self)
    }

    /// The next response.
    func answer(hasBody: Bool = true) async throws -> Answer {
        let head = try await line(upTo: "\r\n\r\n")
        let lines = head.split(separator: "\r\n")
        guard let first = lines.first, let status = Int(first.split(separator: " ")[1]) else { throw Closed() }
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            headers[line[..<colon].lowercased()] = String(line[line.index(after: colon)...].drop { $0 == " " })
        }
        var body: [UInt8] = []
        if headers["transfer-encoding"] == "chunked", hasBody {
            while let size = Int(try await line(upTo: "\r\n"), radix: 16) {
                body += try await take(size)
                _ = try await take(2)
                if size == 0 { break }
            }
        } else if let length = headers["content-length"].flatMap({ Int($0) }), hasBody {
            body = try await take(length)
        }
        return Answer(status: status, headers: headers, body: String(decoding: body, as: UTF8.self))
    }

    private func receive() async throws {
        guard let part = await incoming.next() else { throw Closed() }
        buffer.append(contentsOf: part.readableBytesView)
    }

    private func line(upTo separator: String) async throws -> String {
        let wanted = Array(separator.utf8)
        while true {
            if let range = buffer.firstRange(of: wanted) {
                defer { buffer.removeSubrange(..<range.upperBound) }
                return String(decoding: buffer[..<range.lowerBound], as: UTF8.self)
            }
            try await receive()
        }
    }

    private func take(_ count: Int) async throws -> [UInt8] {
        while buffer.count < count { try await receive() }
        defer { buffer.removeFirst(count) }
        return Array(buffer[..<count])
    }
}

extension RawClient.Answer {
    /// The data of a stream's events.
    var events: [String] {
        body.split(separator: "\n\n").map { $0.hasPrefix("data: ") ? String($0.dropFirst(6)) : String($0) }
    }

    /// The body with the time of day taken out.
    var timeless: String { body.replacing(/"created":\d+/, with: "\"created\":0") }
}
