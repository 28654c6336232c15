// One small request to a server, for what has to be known before a load: whether it answers, and its model.

import Foundation
import JSON
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

enum LoadProbe {
    /// The first model that the server lists.
    /// - Throws: `LoadError.unreachable`, `LoadError.noModel`.
    static func firstModel(_ target: LoadTarget) async throws -> String {
        let url = target.description
        let (status, body) = try await get("/v1/models", target)
        guard status == 200 else {
            throw LoadError.noModel(url: url, reason: "HTTP \(status): \(LoadExchange.message(body))")
        }
        do throws(JSONError) {
            let value = try JSONParser.parse(Array(body.readableBytesView))
            if case .array(let models)? = value["data"], case .string(let name)? = models.first?["id"] { return name }
        } catch {
            throw LoadError.noModel(url: url, reason: "/v1/models is not JSON: \(error.reason)")
        }
        throw LoadError.noModel(url: url, reason: "/v1/models lists none")
    }

    /// The status and the body of an answer.
    private static func get(_ path: String, _ target: LoadTarget) async throws -> (UInt, ByteBuffer) {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let result: Result<(UInt, ByteBuffer), any Error>
        do {
            let answer = group.next().makePromise(of: (UInt, ByteBuffer).self)
            // `connect` is what can fail without the promise being kept.
            answer.futureResult.whenFailure { _ in }
            let security = try target.isSecure ? NIOSSLContext(configuration: .load(target)) : nil
            let channel: any Channel
            do {
                channel = try await ClientBootstrap(group: group)
                    .connectTimeout(.seconds(10))
                    .channelInitializer { channel in
                        channel.eventLoop.makeCompletedFuture {
                            let pipeline = channel.pipeline.syncOperations
                            if let security {
                                try pipeline.addHandler(NIOSSLClientHandler.load(security, host: target.host))
                            }
                            try pipeline.addHTTPClientHandlers()
                            try pipeline.addHandler(ProbeHandler(answer))
                        }
                    }
                    .connect(host: target.host, port: target.port).get()
            } catch {
                answer.fail(error)
                throw error
            }
            channel.write(HTTPClientRequestPart.head(target.head(.GET, path)), promise: nil)
            channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
            let timeout = channel.eventLoop.scheduleTask(in: .seconds(10)) {
                answer.fail(ChannelError.connectTimeout(.seconds(10)))
            }
            result = .success(try await answer.futureResult.get())
            timeout.cancel()
            channel.close(promise: nil)
        } catch {
            result = .failure(LoadError.unreachable(url: target.description, reason: LoadGenerator.reason(error)))
        }
        try await group.shutdownGracefully()
        return try result.get()
    }
}

/// Collects one answer.
private final class ProbeHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart

    private let answer: EventLoopPromise<(UInt, ByteBuffer)>
    private var status: UInt = 0
    private var body = ByteBuffer()

    init(_ answer: EventLoopPromise<(UInt, ByteBuffer)>) { self.answer = answer }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): status = head.status.code
        case .body(let bytes): if body.readableBytes < 1 << 20 { body.writeImmutableBuffer(bytes) }
        case .end: answer.succeed((status, body))
        }
    }

    func channelInactive(context: ChannelHandlerContext) { answer.fail(ChannelError.eof) }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { answer.fail(error) }
}
