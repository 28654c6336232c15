// /start_profile and /stop_profile: records the engine's steps and writes them as a trace that chrome://tracing and
// Perfetto read. Only where the operator named a folder for it.

import Execution
import FoundationEssentials
import Hummingbird
import Logging
import NIOCore

extension Router {
    /// POST /start_profile. Load testers send the body of the requests that they are about to measure.
    func startProfile(_ call: Call) async throws -> Response {
        guard state.configuration.profileFolder != nil else { throw ServingError.profilingDisabled }
        var limit = Int.max
        if call.request.headers[.contentType] != nil, call.request.headers[.contentLength] != "0" {
            let fields = try await state.bodies.fields(of: call.request)
            limit = try fields.integer(.maxIterations) ?? limit
        }
        guard state.engine.beginTrace(limit: limit) else { throw ServingError.alreadyProfiling }
        return Response(status: .ok)
    }

    /// POST /stop_profile: answers with the name of the file.
    func stopProfile() async throws -> Response {
        guard let folder = state.configuration.profileFolder else { throw ServingError.profilingDisabled }
        guard let trace = state.engine.endTrace() else { throw ServingError.notProfiling }
        let name = "apus-\(WallClock.seconds)-\(trace.steps.first?.index ?? 0).json"
        let logger = logger
        try await state.threads.run { () throws(ServingError) in
            let text = ChromeTrace.json(trace)
            do {
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
                try Data(text.readableBytesView).write(to: URL(filePath: folder).appending(path: name))
            } catch {
                logger.error("A trace could not be written.", metadata: ["file": "\(name)", "detail": "\(error)"])
                throw .profileNotWritten
            }
        }
        var body = ByteBuffer()
        body.writeStaticString("{\"file\":")
        body.writeJSON(name)
        body.writeStaticString(",\"steps\":")
        body.writeJSON(trace.steps.count)
        body.writeStaticString(",\"missed\":")
        body.writeJSON(trace.missed)
        body.writeStaticString("}")
        return Response(json: body)
    }
}

/// Steps in the Trace Event Format: three slices for each, and counters. Times are microseconds.
private enum ChromeTrace {
    static func json(_ trace: StepTrace) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeStaticString("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")
        buffer.writeStaticString(
            "{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":1,\"args\":{\"name\":\"engine\"}}")
        for step in trace.steps {
            let arguments =
                "{\"step\":\(step.index),\"sequences\":\(step.sequences),\"tokens\":\(step.tokens),"
                + "\"samples\":\(step.samples),\"preempted\":\(step.preempted)}"
            write("schedule", step.planned, step.begun, "{\"step\":\(step.index)}", to: &buffer)
            write("execute", step.begun, step.collected, arguments, to: &buffer)
            write("complete", step.collected, step.told, "{\"step\":\(step.index)}", to: &buffer)
            let time = microseconds(step.told)
            buffer.writeString(
                ",\n{\"name\":\"requests\",\"ph\":\"C\",\"pid\":1,\"ts\":\(time),"
                    + "\"args\":{\"running\":\(step.running),\"waiting\":\(step.waiting)}}"
                    + ",\n{\"name\":\"kv_usage\",\"ph\":\"C\",\"pid\":1,\"ts\":\(time),"
                    + "\"args\":{\"share\":\(step.kvUsage)}}")
        }
        buffer.writeStaticString("\n]}\n")
        return buffer
    }

    private static func write(
        _ name: String, _ start: Duration, _ end: Duration, _ arguments: String, to buffer: inout ByteBuffer
    ) {
        let duration = max(0, microseconds(end) - microseconds(start))
        buffer.writeString(
            ",\n{\"name\":\"\(name)\",\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":\(microseconds(start)),"
                + "\"dur\":\(duration),\"args\":\(arguments)}")
    }

    private static func microseconds(_ time: Duration) -> Int { Int((time.seconds * 1e6).rounded()) }
}
