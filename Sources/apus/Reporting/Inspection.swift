// A checkpoint's facts, read without its weights: what it is, how it speaks, and how large its cache would be.

import CPUBackend
import Checkpoints
import Execution
import Foundation
import Models
import Scheduling
import Tensors
import Tokenization

/// A model file and the memory plan that serving it with the given settings would have.
struct Inspection {
    private let model: ModelFile
    /// Weights as stored; activations are sized when the model is loaded and are not part of it.
    private let plan: MemoryPlan

    /// - Throws: what makes the file or the plan impossible: `CheckpointError`, `TokenizationError`, `TemplateError`,
    ///   `EngineError.invalidConfiguration`, `BackendError`.
    init(path: String, settings: ResolvedSettings) throws {
        model = try ModelFile(path: path)
        let configuration = EngineConfiguration(
            settings, isOnGPU: false, availableMemoryBytes: MachineMemory.availableBytes(), cacheKey: (0, 0))
        let config = model.config
        let cacheType = try Self.cacheType(configuration.kvCacheType, settings)
        plan = try MemoryPlan(
            configuration: configuration,
            model: .init(
                contextLength: config.contextLength,
                weightBytes: model.storedTypes.reduce(0) { $0 + $1.bytes }, activationBytes: 0,
                adapterBytes: configuration.adapters?.byteCount(of: config) ?? 0,
                kvBytesPerToken: config.layerCount
                    * (cacheType.bytesPerToken(kvHeads: config.kvHeadCount, headDim: config.headDim) ?? 0),
                layout: CacheLayout(
                    layerCount: config.layerCount, windowedLayers: config.windowedLayers,
                    window: config.slidingWindow)))
    }

    /// What keys and values would be kept as: what was asked for, though this machine may have no device that has it,
    /// unless the CPU was asked for too.
    private static func cacheType(_ type: KVCacheType, _ settings: ResolvedSettings) throws -> KVCacheType {
        let isForCPU = settings.text(.device).flatMap { DeviceSetting($0) } == .cpu
        guard type == .auto || isForCPU else { return type }
        var compute = ComputeConfiguration(settings, coreCount: 1)
        compute.threads = 1
        return try RunningModel.makeCPUBackend(compute).kvCacheType(type)
    }

    /// The line of the start-up report.
    var cacheLine: String { StartupReport.cacheLine(plan) }

    // MARK: For people

    func text(metadata: Bool, tensors: Bool) -> String {
        let width = facts.map(\.name.count).max() ?? 0
        var lines = facts.map { "\($0.name.padded(to: width))  \($0.text)" } + ["", cacheLine]
        if metadata {
            lines += ["", "METADATA"]
            lines += model.metadata.map { "  \(escape($0.key)) = \($0.summary)" }
        }
        if tensors { lines += ["", "TENSORS"] + tensorLines }
        return lines.joined(separator: "\n")
    }

    private struct Fact {
        let name: String
        let text: String
        let json: JSONText

        init(_ name: String, _ text: String, _ json: JSONText? = nil) {
            self.name = name
            self.text = text
            self.json = json ?? .string(text)
        }

        init(_ name: String, _ value: Int) { self.init(name, "\(value)", .integer(value)) }
        init(bytes name: String, _ value: Int) { self.init(name, ByteCount.approximate(value), .integer(value)) }
    }

    /// In the order they are shown.
    private var facts: [Fact] {
        let config = model.config
        let tokenizer = model.tokenizer
        return [
            Fact("file", model.path),
            Fact(bytes: "file size", model.byteCount),
            Fact("format", model.format),
            Fact("name", config.name ?? "-"),
            Fact("architecture", config.architecture),
            Fact("parameters", model.parameterCount),
            Fact("layers", config.layerCount),
            Fact("hidden size", config.hiddenSize),
            Fact("ffn size", config.ffnSize),
            Fact("heads", config.headCount),
            Fact("kv heads", config.kvHeadCount),
            Fact("head dim", config.headDim),
            Fact("context length", config.contextLength),
            Fact("vocabulary", config.vocabSize),
            Fact("stored as", storedTypes, .object(model.storedTypes.map { ($0.name, .integer($0.bytes)) })),
            Fact("begins with", spell(tokenizer.addsBOS ? tokenizer.bos.map { [$0] } ?? [] : [])),
            Fact("stops at", spell(model.stopTokens)),
            Fact("model digest", model.digests.model),
            Fact("tokenizer digest", model.digests.tokenizer),
            Fact("template digest", model.digests.template ?? "-"),
            Fact(
                "chat template", model.chatTemplate == nil ? "none" : "yes", .boolean(model.chatTemplate != nil)),
            Fact(bytes: "weights", plan.weightBytes),
            Fact(bytes: "KV per token", plan.kvBytesPerToken),
            Fact("KV blocks", "\(plan.blockCount) of \(plan.blockContents)", .integer(plan.blockCount)),
            Fact(bytes: "KV cache", plan.cacheBytes),
        ]
    }

    private var storedTypes: String {
        model.storedTypes.map { "\($0.name) \(ByteCount.approximate($0.bytes))" }.joined(separator: ", ")
    }

    private func spell(_ tokens: [TokenID]) -> String {
        guard !tokens.isEmpty else { return "-" }
        return tokens.map { "\(JSONText.string(model.tokenizer.text(of: $0) ?? "").line) (\($0))" }
            .joined(separator: ", ")
    }

    /// A name from the file, without its control characters.
    private func escape(_ name: String) -> String {
        String(JSONText.string(name).line.dropFirst().dropLast())
    }

    private var tensorLines: [String] {
        let rows = model.tensors.map { tensor in
            (
                escape(tensor.name), tensor.type, tensor.shape.map { String($0) }.joined(separator: " × "),
                ByteCount.approximate(tensor.byteCount)
            )
        }
        let nameWidth = rows.map(\.0.count).max() ?? 0
        let shapeWidth = rows.map(\.2.count).max() ?? 0
        return rows.map { name, type, shape, size in
            "  \(name.padded(to: nameWidth))  \(type.padded(to: 4))  \(shape.padded(to: shapeWidth))  "
                + size.indented(to: 11)
        }
    }

    // MARK: For machines

    func json(metadata: Bool = false, tensors: Bool = false) -> JSONText {
        var members = facts.map { ($0.name.lowercased().replacing(" ", with: "_"), $0.json) }
        members += [
            ("block_size", .integer(plan.blockSize)), ("kv_cache_tokens", .integer(plan.cacheTokenCount)),
            ("max_model_len", .integer(plan.maxModelLength)),
            ("max_concurrency", .decimal(plan.concurrency(length: plan.maxModelLength), places: 2)),
        ]
        if metadata {
            members.append(
                ("metadata", .object(model.metadata.map { ($0.key, .string($0.summary)) })))
        }
        if tensors {
            members.append(
                (
                    "tensors",
                    .array(
                        model.tensors.map { tensor in
                            .object([
                                ("name", .string(tensor.name)), ("type", .string(tensor.type)),
                                ("shape", .array(tensor.shape.map { .integer($0) })),
                                ("bytes", .integer(tensor.byteCount)),
                            ])
                        })
                ))
        }
        return .object(members)
    }

    /// The facts alone.
    var json: JSONText { json() }
}
