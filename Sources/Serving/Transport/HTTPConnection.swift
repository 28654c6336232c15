// How an accepted connection becomes requests: the handlers of its pipeline, in order, and nothing else. Bytes pass
// TLS where it is on, the codec, the guard that knows HTTP's rules, the watch that knows whether the client is there,
// and then the server.

import HTTPTypes
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPTypes
import NIOHTTPTypesHTTP1
import NIOSSL

/// Sets up and serves one connection.
struct HTTPConnection: HTTPChannelHandler {
    typealias Value = NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>

    let responder: HTTPChannelHandler.Responder
    let limits: ConnectionLimits
    let openConnections: ConnectionGauge
    /// nil: HTTP in the clear.
    let certificates: TLSCertificates?

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        channel.eventLoop.makeCompletedFuture {
            let pipeline = channel.pipeline.syncOperations
            let conduct = ConnectionGuard(limits: limits, openConnections: openConnections)
            var head = NIOHTTPDecoderLimitConfiguration()
            head.maxHeaderFieldSize = HeadLimits.fieldBytes
            head.maxHeaderListSize = HeadLimits.totalBytes
            head.maxHeaderFieldCount = HeadLimits.fieldCount
            if let certificates {
                try pipeline.addHandler(NIOSSLServerHandler(context: certificates.context))
                try pipeline.addHandler(HandshakeDeadline(limit: TimeAmount(limits.requestHead)))
            }
            try pipeline.addHandler(ByteArrival(conduct))
            try pipeline.configureHTTPServerPipeline(
                withPipeliningAssistance: false, withErrorHandling: false, withOutboundHeaderValidation: false,
                withEncoderConfiguration: .init(), withDecoderLimitConfiguration: head)
            try pipeline.addHandler(conduct)
            try pipeline.addHandler(HTTP1ToHTTPServerCodec(secure: certificates != nil))
            try pipeline.addHandler(PeerWatch(limits: limits))
            try pipeline.addHandler(HTTPConnectionStateHandler(idleTimeout: limits.idle, logger: logger))
            return try NIOAsyncChannel(
                wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
        }
    }

    func handle(value: Value, logger: Logger) async { await handleHTTP(asyncChannel: value, logger: logger) }
}
