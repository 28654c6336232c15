// Files in memory, the weights of a Llama, and a seeded generator.

import Checkpoints
import Tensors
import Testing

#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// Memory that can be changed between parses, aligned as a mapping is.
@safe
final class Scratch {
    let bytes: UnsafeMutableRawBufferPointer
    private let isMapped: Bool

    init(_ content: [UInt8]) {
        unsafe bytes = .allocate(byteCount: content.count, alignment: 4096)
        unsafe bytes.copyBytes(from: content)
        isMapped = false
    }

    /// A private, writable mapping of a file: changes stay in this process.
    init(mapping path: String) throws {
        let descriptor = unsafe open(path, O_RDONLY)
        try #require(descriptor >= 0, "cannot open \(path)")
        defer { close(descriptor) }
        let size = Int(lseek(descriptor, 0, SEEK_END))
        let address = unsafe mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0)
        let base = try unsafe #require(address)
        unsafe bytes = UnsafeMutableRawBufferPointer(start: base, count: size)
        isMapped = true
    }

    deinit {
        if isMapped { unsafe munmap(bytes.baseAddress, bytes.count) } else { unsafe bytes.deallocate() }
    }

    var count: Int { unsafe bytes.count }

    subscript(index: Int) -> UInt8 {
        get { unsafe bytes[index] }
        set { unsafe bytes[index] = newValue }
    }

    /// The first `count` bytes as a file.
    func file(count: Int? = nil) -> MappedFile {
        unsafe MappedFile(
            unownedBytes: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(bytes)[..<(count ?? bytes.count)]),
            path: "test.gguf")
    }
}

/// Parses bytes as a GGUF file.
func parse(_ bytes: [UInt8], limits: GGUFLimits = GGUFLimits()) throws -> GGUFFile {
    try GGUFFile(MappedFile(copying: bytes, path: "test.gguf"), limits: limits)
}

/// Reads every weight of a Llama, as a model would.
@discardableResult
func readLlamaWeights(_ source: any TensorSource, _ config: ModelConfig) throws -> [StoredTensor] {
    let reader = WeightReader(source)
    var tensors = [
        try reader.tensor("token_embd.weight", shape: [config.vocabSize, config.hiddenSize]),
        try reader.tensor("output_norm.weight", shape: [config.hiddenSize]),
    ]
    if let output = try reader.optionalTensor("output.weight", shape: [config.vocabSize, config.hiddenSize]) {
        tensors.append(output)
    }
    if let factors = try reader.optionalTensor("rope_freqs.weight", shape: [config.ropeDimension / 2]) {
        tensors.append(factors)
    }
    let queries = config.headCount * config.headDim
    let keys = config.kvHeadCount * config.headDim
    for index in 0..<config.layerCount {
        let layer = reader.scoped("blk.\(index)")
        tensors += [
            try layer.tensor("attn_norm.weight", shape: [config.hiddenSize]),
            try layer.tensor("attn_q.weight", shape: [queries, config.hiddenSize]),
            try layer.tensor("attn_k.weight", shape: [keys, config.hiddenSize]),
            try layer.tensor("attn_v.weight", shape: [keys, config.hiddenSize]),
            try layer.tensor("attn_output.weight", shape: [config.hiddenSize, queries]),
            try layer.tensor("ffn_norm.weight", shape: [config.hiddenSize]),
            try layer.tensor("ffn_gate.weight", shape: [config.ffnSize, config.hiddenSize]),
            try layer.tensor("ffn_up.weight", shape: [config.ffnSize, config.hiddenSize]),
            try layer.tensor("ffn_down.weight", shape: [config.hiddenSize, config.ffnSize]),
        ]
    }
    try reader.requireAllRead()
    return tensors
}

/// The path of the real model, which the test run must name.
func realModelPath() throws -> String {
    let value = unsafe getenv("APUS_TEST_MODEL")
    let path = try unsafe #require(
        value, "APUS_TEST_MODEL is not set; run the tests with `make test`, which fetches the model")
    return unsafe String(cString: path)
}
