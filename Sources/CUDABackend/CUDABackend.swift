// An NVIDIA GPU as a compute device: memory, weights and steps. Every operation is a launch or two on one stream.
//
// Nothing waits for the device but `collect`, `synchronize` and `download`. A step's launches depend on its padded
// shape only, so steps are captured once per shape and replayed. Numbers do not depend on batch, chunks or block size:
// see Kernels/linear.cu, linear_hopper.cu and attention.cu.

import CUDADriver
import CUDAKernels
import Tensors

/// The CUDA implementation of `Backend`. Lives on the engine's thread, on which its context is current.
///
/// Safe to hold: addresses come from its own `allocate`, and the device's memory is never dereferenced here.
@safe
package final class CUDABackend: Backend {
    /// What is fixed when the backend starts.
    package struct Options: Sendable {
        package var device = DeviceChoice.first
        /// Whether steps are captured and replayed.
        package var usesGraphs = true
        /// Bytes of each of the four segments that uploads pass through.
        package var stagingBytes = 4 << 20

        package init() {}
    }

    let device: Device
    let stream: Stream
    let options: Options
    private(set) var library: KernelLibrary
    private var staging: StagingRing
    /// The first failure, kept until `synchronize` or `collect` reports it; sticky.
    private(set) var failure: BackendError?
    /// Steps by shape: seen once, then captured.
    private var graphs: [StepShape: StepGraph] = [:]
    /// Whether `body` of a step is being run, and the step's attention has been planned.
    private(set) var isInStep = false
    /// The latest product, where what follows may be done at its end: see CUDABackend+Endings.swift.
    var held: HeldProduct?
    /// The latest sum over ranks, where a norm may follow it.
    var heldSum: HeldSum?
    let endings: EndingScratch
    /// What this step's rows are rotated by, and where it lies.
    var rotations: [Rotation: Int] = [:]
    var isPlanned = false
    var attentionScratch: AttentionScratch?
    /// By the first expert of the layer.
    var expertTables: [ObjectIdentifier: ExpertTables] = [:]
    var expertScratch: ExpertScratch?
    var ranking = GreedyRanking()
    /// What the kernels for compute capability 9.0 need beside their arguments; nil for those of 8.0.
    let hopper: HopperScratch?
    /// Whether launches say that they may overlap: every kernel waits for those in front before it touches what is
    /// theirs.
    private let overlaps: Bool
    var sampler: Sampler
    /// Where this computes a part of a model: its side of the group's calls, and how many each captured step makes.
    var rank: CUDACollectives?
    private var callCounts: [StepShape: Int] = [:]

    /// - Throws: `BackendError.unsupported` when the device or the kernels cannot be used.
    package init(_ options: Options, driver: Driver, kernels: KernelImages) throws(BackendError) {
        self.options = options
        device = try Device(options.device, driver: driver)
        stream = try Stream(device: device)
        library = try KernelLibrary(kernels, device: device)
        staging = try StagingRing(segmentBytes: options.stagingBytes, device: device)
        sampler = try Sampler(device: device)
        let usesHopper = kernels.use.takesHopper && HopperScratch.fits(device.properties)
        // Drivers before CUDA 12.3 do not capture launches that overlap.
        overlaps =
            kernels.use.overlaps && device.properties.computeCapability >= 90
            && device.properties.driverVersion >= 12_030
        endings = try EndingScratch(device: device, stream: stream)
        hopper = usesHopper ? try HopperScratch(device: device, stream: stream) : nil
        try checkStamp(kernels)
    }

    /// Waits for what still runs, so that nothing is freed under it.
    deinit {
        _ = unsafe device.driver.calls.stream_synchronize(stream.handle)
        // A rank leaves its group while its stream is still there.
        rank = nil
    }

    package var summary: String {
        let properties = device.properties
        return "\(properties.name), compute \(properties.computeCapability / 10).\(properties.computeCapability % 10), "
            + "\(properties.multiprocessorCount) multiprocessors, CUDA \(properties.driverVersion / 1000)."
            + "\(properties.driverVersion % 1000 / 10), \(properties.uuid)" + (rank.map { ", \($0.summary)" } ?? "")
    }

    package var isAsynchronous: Bool { true }
    package var padsSteps: Bool { options.usesGraphs }
    package var linearInputType: DType { .bf16 }
    package var collectives: (any Collectives)? { rank }

    /// Free and total bytes of the device, and what it says of itself.
    package func memory() throws(BackendError) -> (free: Int, total: Int) { try device.memory() }
    package var properties: DeviceProperties { device.properties }

    // MARK: Memory

    package func allocate(_ shape: Shape, _ dtype: DType, purpose: String) throws(BackendError) -> Tensor {
        var elements: Int? = 1
        for dimension in 0..<shape.rank { elements = elements.flatMap { Self.product($0, shape[dimension]) } }
        guard let byteCount = elements.flatMap({ dtype.rowByteCount(elementCount: $0) }) else {
            throw .outOfMemory(byteCount: .max, purpose: purpose)
        }
        let buffer = try device.allocate(byteCount: byteCount, purpose: purpose)
        return Tensor(buffer: buffer, shape: shape, dtype: dtype)
    }

    package func kvCacheType(_ type: KVCacheType) throws(BackendError) -> KVCacheType {
        switch type {
        case .auto, .bfloat16: return .bfloat16
        case .fp8, .int8PerTokenHead: return type
        case .float32:
            throw .unsupported(
                operation: "a KV cache of \(type.rawValue) on a GPU",
                reason: "it has bfloat16, fp8 and int8_per_token_head")
        }
    }

    package func allocateKVLayer(
        blockCount: Int, kvHeads: Int, blockSize: Int, headDim: Int, type: KVCacheType
    ) throws(BackendError) -> KVLayer {
        let type = try kvCacheType(type)
        guard blockSize > 0, blockSize % 16 == 0, blockSize <= 256 else {
            throw .unsupported(
                operation: "block size \(blockSize) on a GPU", reason: "it must be a multiple of 16 up to 256")
        }
        guard cuda_attention_supports(Int32(clamping: headDim)) else {
            throw .unsupported(
                operation: "attention heads of \(headDim) on a GPU",
                reason: "there are kernels for 64, 80, 96, 128 and 256")
        }
        let needed = Self.attentionSharedBytes(headDim: headDim, type: type)
        let most = device.properties.maxSharedBytesPerBlock
        guard needed <= most else {
            throw .unsupported(
                operation: "attention heads of \(headDim) on \(device.properties.name)",
                reason: "they take \(needed) bytes of shared memory, and it gives a block \(most)")
        }
        let byteCount = Int(
            clamping: cuda_kv_bytes(type.kernel, Int64(blockCount), Int32(blockSize), Int32(kvHeads), Int32(headDim)))
        // Of 8 bits, elements and scales in words.
        let isBytes = type != .bfloat16
        let shape: Shape =
            isBytes
            ? [blockCount, kvHeads, blockSize * (headDim + 4) / 4] : [blockCount, kvHeads, blockSize, headDim]
        func pages(_ purpose: String) throws(BackendError) -> Tensor {
            let buffer = try device.allocate(byteCount: byteCount, purpose: purpose)
            let result = unsafe device.driver.calls.fill(cuda_pointer(buffer.address), 0, byteCount, stream.handle)
            try device.driver.check(result, "clearing \(purpose)")
            return Tensor(buffer: buffer, shape: shape, dtype: isBytes ? .i32 : .bf16)
        }
        return KVLayer(
            keys: try pages("the key cache"), values: try pages("the value cache"), blockSize: blockSize, type: type)
    }

    /// The most dynamic shared memory that attention over heads of this size takes.
    private static func attentionSharedBytes(headDim: Int, type: KVCacheType) -> Int {
        var arguments = cuda_attend_arguments()
        arguments.cache.type = type.kernel
        arguments.batch.head_dim = Int32(headDim)
        (arguments.batch.heads, arguments.batch.kv_heads, arguments.cache.block_size) = (1, 1, 16)
        return Int(unsafe withUnsafePointer(to: arguments) { unsafe cuda_attend_prefill_launch($0) }.shared_bytes)
    }

    package func kvBytesPerToken(kvHeads: Int, headDim: Int, type: KVCacheType) throws(BackendError) -> Int {
        let type = try kvCacheType(type)
        return 2 * Int(clamping: cuda_kv_bytes(type.kernel, 1, 16, Int32(kvHeads), Int32(headDim))) / 16
    }

    package func upload(_ values: [Int32], count: Int, to tensor: Tensor) {
        precondition(tensor.dtype == .i32 && count <= values.count && count <= tensor.elementCount)
        unsafe values.withUnsafeBytes { source in
            unsafe enqueue(UnsafeRawBufferPointer(rebasing: source[..<(count * 4)]), to: tensor.address)
        }
    }

    package func upload(_ values: [Float], to tensor: Tensor) {
        precondition(values.count <= tensor.elementCount)
        switch tensor.dtype {
        case .f32: unsafe values.withUnsafeBytes { unsafe enqueue($0, to: tensor.address) }
        case .bf16:
            // Nearest, ties to even, as the kernels round.
            let halves = values.map { value in
                UInt16(truncatingIfNeeded: (value.bitPattern + 0x7FFF + (value.bitPattern >> 16 & 1)) >> 16)
            }
            unsafe halves.withUnsafeBytes { unsafe enqueue($0, to: tensor.address) }
        default: preconditionFailure("numbers for a tensor of \(tensor.dtype)")
        }
    }

    /// Copies `bytes` to `address` while loading.
    func upload(_ bytes: [UInt8], to address: UInt) throws(BackendError) {
        unsafe bytes.withUnsafeBytes { unsafe enqueue($0, to: address) }
        if let failure { throw failure }
    }

    /// Copies host bytes to the device in order with everything else; failures are kept.
    func enqueue(_ source: UnsafeRawBufferPointer, to address: UInt) {
        settle()
        attempt { () throws(BackendError) in try unsafe staging.upload(source, to: address, stream: stream) }
    }

    package func download(_ tensor: Tensor) -> [Float] {
        let count = tensor.elementCount
        switch tensor.dtype {
        case .f32: return read(tensor.address, count: count, as: Float.self, zero: 0)
        case .bf16:
            return read(tensor.address, count: count, as: UInt16.self, zero: 0)
                .map { Float(bitPattern: UInt32($0) << 16) }
        default: preconditionFailure("a tensor of \(tensor.dtype) where numbers belong")
        }
    }

    func read<Element>(_ address: UInt, count: Int, as: Element.Type, zero: Element) -> [Element] {
        var values = Array(repeating: zero, count: count)
        attempt { () throws(BackendError) in
            let result = unsafe values.withUnsafeMutableBytes { target in
                unsafe device.driver.calls.copy_to_host(
                    target.baseAddress, cuda_pointer(address), target.count, stream.handle)
            }
            try device.driver.check(result, "downloading \(count) elements")
            try stream.synchronize("downloading \(count) elements")
        }
        return values
    }

    package func synchronize() throws(BackendError) {
        attempt { () throws(BackendError) in try stream.synchronize("a step") }
        if let failure { throw failure }
    }

    // MARK: Steps

    package func padded(_ shape: StepShape) -> StepShape {
        guard options.usesGraphs else { return shape }
        guard shape.isDecodeOnly else { return Self.bucket(shape) }
        let count = Self.bucket(shape.sequenceCount)
        return StepShape(
            tokenCount: count, sequenceCount: count, sampledRowCount: count, isDecodeOnly: true,
            usesAdapters: shape.usesAdapters, samplesGreedily: shape.samplesGreedily)
    }

    /// Captured shapes, each of which takes some memory of the driver.
    static let mostGraphs = 256

    /// The number of sequences a decoding step is filled up to: 1, 2, 4, 8, then multiples of 8, and of 32 beyond 256.
    static func bucket(_ count: Int) -> Int {
        switch count {
        case ...1: 1
        case 2: 2
        case ...4: 4
        case ...256: (count + 7) / 8 * 8
        default: (count + 31) / 32 * 32
        }
    }

    /// What a step with prompts in it is filled up to: rows to less than a tile of a product more, so that few shapes
    /// are captured; sequences and sampled rows to a power of two. Sequences without rows cost next to nothing.
    static func bucket(_ shape: StepShape) -> StepShape {
        func power(_ count: Int) -> Int { count <= 1 ? count : 1 << (Int.bitWidth - (count - 1).leadingZeroBitCount) }
        let step = shape.tokenCount <= 64 ? 8 : shape.tokenCount <= 1024 ? 64 : 128
        let sequences = power(shape.sequenceCount)
        let isUsual = 1...shape.sequenceCount ~= shape.sampledRowCount
        return StepShape(
            tokenCount: (shape.tokenCount + step - 1) / step * step, sequenceCount: sequences,
            sampledRowCount: isUsual ? sequences : power(shape.sampledRowCount), isDecodeOnly: false,
            usesAdapters: shape.usesAdapters, samplesGreedily: shape.samplesGreedily)
    }

    package func perform(_ shape: StepShape, _ body: () -> Void) {
        func run() {
            ranking.begin(shape)
            inStep(body)
        }
        defer { ranking.end(shape) }
        guard options.usesGraphs, shape == padded(shape), failure == nil else { return run() }
        // Shapes with prompts are many; those beyond are launched one by one.
        guard shape.isDecodeOnly || graphs[shape] != nil || graphs.count < Self.mostGraphs else { return run() }
        attempt { () throws(BackendError) in
            switch graphs[shape] {
            case .captured(let owner):
                try owner.graph.launch(stream)
                device.membership?.progress.add(callCounts[shape] ?? 0)
            case .seen:
                let count = device.membership?.progress.count ?? 0
                let graph = try Graph(capturing: stream, device: device, run)
                if let membership = device.membership { callCounts[shape] = membership.progress.count - count }
                graphs[shape] = .captured(Graph.Owner(graph))
                try graphs[shape]?.launch(stream)
            case nil:
                // The first time runs as it is: whatever is allocated or configured on first use is done then.
                run()
                graphs[shape] = .seen
            }
        }
    }

    /// Runs `body` as the operations of one step, which share one plan of their attention.
    func inStep(_ body: () -> Void) {
        isInStep = true
        isPlanned = false
        rotations.removeAll(keepingCapacity: true)
        hopper?.normed = nil
        body()
        settle()
        isInStep = false
    }

    /// Whether this step's attention still has to be planned; a call outside a step plans for itself.
    func takesPlanning() -> Bool {
        guard isInStep else { return true }
        defer { isPlanned = true }
        return !isPlanned
    }

    /// Forgets captured steps: addresses they hold have changed.
    func dropGraphs() { graphs.removeAll() }

    // MARK: Launches

    /// Asks for the kernel that `plan` chooses for `arguments`. Failures are kept for `synchronize`.
    func launch<Arguments>(
        _ plan: (UnsafePointer<Arguments>?) -> cuda_launch, _ arguments: Arguments, _ operation: String
    ) {
        settle()
        let shape = unsafe withUnsafePointer(to: arguments) { unsafe plan($0) }
        launch(shape, arguments, operation)
    }

    private func launch<Arguments>(_ shape: cuda_launch, _ arguments: Arguments, _ operation: String) {
        guard shape.grid_x > 0, shape.grid_y > 0, shape.grid_z > 0 else { return }
        attempt { () throws(BackendError) in
            let id = Int(shape.kernel)
            if shape.shared_bytes > library.kernels[id].sharedBytes {
                try library.kernels[id].allow(sharedBytes: shape.shared_bytes, operation, device: device)
            }
            var arguments = arguments
            let result = unsafe withUnsafeMutablePointer(to: &arguments) { pointer in
                var parameter: UnsafeMutableRawPointer? = UnsafeMutableRawPointer(pointer)
                guard overlaps else {
                    return unsafe device.driver.calls.launch(
                        library.kernels[id].handle, shape.grid_x, shape.grid_y, shape.grid_z, shape.threads, 1, 1,
                        shape.shared_bytes, stream.handle, &parameter, nil)
                }
                var attribute = cuda_launch_attribute()
                (attribute.id, attribute.value.0) = (UInt32(CUDA_LAUNCH_OVERLAPS), 1)
                return unsafe withUnsafePointer(to: attribute) { attribute in
                    var config = unsafe cuda_launch_config(
                        grid_x: shape.grid_x, grid_y: shape.grid_y, grid_z: shape.grid_z, block_x: shape.threads,
                        block_y: 1, block_z: 1, shared_bytes: shape.shared_bytes, stream: stream.handle,
                        attributes: attribute, attribute_count: 1)
                    return unsafe device.driver.calls.launch_with(
                        &config, library.kernels[id].handle, &parameter, nil)
                }
            }
            try device.driver.check(result, operation)
        }
    }

    /// Does `body` unless the device has failed; the first failure is kept.
    func attempt(_ body: () throws(BackendError) -> Void) {
        guard failure == nil else { return }
        do { try body() } catch { failure = groupFailure(explained(error)) }
    }

    /// The error, which is the whole group's where this is one of its ranks.
    private func groupFailure(_ error: BackendError) -> BackendError {
        guard let membership = device.membership else { return error }
        if case .rankFailure = error { return error }
        return .rankFailure(
            membership.ranks.end(
                membership.shard, call: "a step", elapsed: .zero, reason: "failed (\(error.description))"))
    }

    /// The error, with what a kernel of compute capability 9.0 waited for if it ended itself.
    private func explained(_ error: BackendError) -> BackendError {
        guard case .deviceFailure(let operation, let reason) = error, let place = hopper?.stuckPlace else {
            return error
        }
        return .deviceFailure(operation: operation, reason: "\(reason); \(place)")
    }

    private func checkStamp(_ kernels: KernelImages) throws(BackendError) {
        let output = try device.allocate(byteCount: 8, purpose: "the kernels' stamp")
        let shape = cuda_launch(
            kernel: Int32(CUDA_KERNEL_stamp), grid_x: 1, grid_y: 1, grid_z: 1, threads: 1, shared_bytes: 0)
        launch(shape, cuda_stamp_arguments(output: cuda_address(output.address)), "reading the kernels' stamp")
        let stamp = read(output.address, count: 1, as: UInt64.self, zero: 0)[0]
        if let failure { throw failure }
        guard stamp == cuda_kernels_stamp() else {
            throw .unsupported(
                operation: "the kernels in \(kernels.origin)",
                reason: "they are of another version. Rebuild them with `make kernels`")
        }
    }

    static func product(_ a: Int, _ b: Int) -> Int? {
        let (result, overflow) = a.multipliedReportingOverflow(by: b)
        return overflow || result < 0 ? nil : result
    }
}

/// What is known of a shape of step.
private enum StepGraph {
    case seen
    case captured(Graph.Owner)

    func launch(_ stream: borrowing Stream) throws(BackendError) {
        if case .captured(let owner) = self { try owner.graph.launch(stream) }
    }
}

extension Graph {
    /// A graph in a dictionary, which holds copyable values only.
    final class Owner {
        let graph: Graph
        init(_ graph: consuming Graph) { self.graph = graph }
    }
}
