// One owner for each kind of handle the driver gives out: made by `init`, destroyed once, by `deinit`.
//
// A destroy call that fails has nobody to tell and nothing left to save: the device is gone, or the process is ending.

import CUDADriver
import Tensors

/// A module: the kernels of one fatbin.
@safe
struct Module: ~Copyable {
    private let device: Device
    private let handle: cuda_handle?

    /// - Parameter image: the fatbin's bytes.
    init(_ image: [UInt8], name: String, device: Device) throws(BackendError) {
        var handle: cuda_handle?
        let result = unsafe image.withUnsafeBytes { unsafe device.driver.calls.module_load(&handle, $0.baseAddress) }
        guard result == 0 else {
            throw .unsupported(
                operation: "kernels of \(name)",
                reason: "the driver refused them: \(device.driver.describe(result)). Rebuild them with `make kernels`")
        }
        self.device = device
        unsafe self.handle = unsafe handle
    }

    /// The kernel called `name`, or nil when this module has none.
    func function(_ name: String) -> Kernel? {
        var function: cuda_handle?
        guard unsafe device.driver.calls.module_function(&function, handle, name) == 0 else { return nil }
        return unsafe Kernel(handle: function)
    }

    deinit { _ = unsafe device.driver.calls.module_unload(handle) }
}

/// A kernel of a loaded module; valid as long as the module is.
@safe
struct Kernel {
    let handle: cuda_handle?
    /// Dynamic shared memory it was last allowed to use, in bytes; the driver's default is 48 KiB.
    var sharedBytes = UInt32(48 << 10)

    init(handle: cuda_handle?) { unsafe self.handle = unsafe handle }

    /// Lets the kernel have more shared memory than the driver's default. What it shares with the cache then goes to it
    /// whole: its blocks count on living side by side.
    mutating func allow(sharedBytes: UInt32, _ operation: String, device: Device) throws(BackendError) {
        let values = [
            (CUDA_FUNCTION_MAX_DYNAMIC_SHARED_SIZE_BYTES, Int32(sharedBytes)),
            (CUDA_FUNCTION_PREFERRED_SHARED_MEMORY_CARVEOUT, 100),
        ]
        for (attribute, value) in values {
            let result = unsafe device.driver.calls.function_set_attribute(handle, Int32(attribute), value)
            try device.driver.check(result, "giving \(operation) \(sharedBytes) bytes of shared memory")
        }
        self.sharedBytes = sharedBytes
    }
}

/// A queue of work that the device does in order.
@safe
struct Stream: ~Copyable {
    private let device: Device
    let handle: cuda_handle?

    init(device: Device) throws(BackendError) {
        var handle: cuda_handle?
        let result = unsafe device.driver.calls.stream_create(&handle, UInt32(CUDA_STREAM_NON_BLOCKING))
        try device.driver.check(result, "creating a stream")
        self.device = device
        unsafe self.handle = unsafe handle
    }

    func synchronize(_ operation: String) throws(BackendError) {
        try device.wait(operation) { unsafe device.driver.calls.stream_synchronize(handle) }
    }

    /// Lets what is asked for from now on wait for the event's last record, which may be another stream's.
    func wait(forEventAt address: UInt) throws(BackendError) {
        let result = unsafe device.driver.calls.stream_wait_event(handle, cuda_handle(bitPattern: address), 0)
        try device.driver.check(result, "waiting for another rank")
    }

    deinit { _ = unsafe device.driver.calls.stream_destroy(handle) }
}

/// A mark in a stream that the host can wait for.
@safe
struct Event: ~Copyable {
    private let device: Device
    private let handle: cuda_handle?

    /// - Parameter measuresTime: whether `milliseconds(since:)` will be asked.
    init(device: Device, measuresTime: Bool = false) throws(BackendError) {
        var handle: cuda_handle?
        let flags = measuresTime ? 0 : UInt32(CUDA_EVENT_DISABLE_TIMING)
        try device.driver.check(unsafe device.driver.calls.event_create(&handle, flags), "creating an event")
        self.device = device
        unsafe self.handle = unsafe handle
    }

    func record(_ stream: borrowing Stream) throws(BackendError) {
        try device.driver.check(unsafe device.driver.calls.event_record(handle, stream.handle), "recording an event")
    }

    /// Waits until everything before the mark is done.
    func wait(_ operation: String) throws(BackendError) {
        try device.wait(operation) { unsafe device.driver.calls.event_synchronize(handle) }
    }

    /// For streams of other threads to wait for.
    var address: UInt { unsafe UInt(bitPattern: handle) }

    func milliseconds(since start: borrowing Event) throws(BackendError) -> Float {
        var milliseconds: Float = 0
        let result = unsafe device.driver.calls.event_elapsed(&milliseconds, start.handle, handle)
        try device.driver.check(result, "reading a timer")
        return milliseconds
    }

    deinit { _ = unsafe device.driver.calls.event_destroy(handle) }
}

/// Launches captured once and replayed together.
@safe
struct Graph: ~Copyable {
    private let device: Device
    private let handle: cuda_handle?

    /// Captures what `body` asks of `stream`; nothing runs yet.
    init(capturing stream: borrowing Stream, device: Device, _ body: () -> Void) throws(BackendError) {
        let calls = device.driver.calls
        let mode = Int32(CUDA_CAPTURE_MODE_THREAD_LOCAL)
        try device.driver.check(unsafe calls.capture_begin(stream.handle, mode), "beginning a capture")
        body()
        var graph: cuda_handle?
        try device.driver.check(unsafe calls.capture_end(stream.handle, &graph), "ending a capture")
        var handle: cuda_handle?
        let result = unsafe calls.graph_instantiate(&handle, graph, 0)
        _ = unsafe calls.graph_destroy(graph)
        try device.driver.check(result, "instantiating a graph")
        self.device = device
        unsafe self.handle = unsafe handle
    }

    func launch(_ stream: borrowing Stream) throws(BackendError) {
        let result = unsafe device.driver.calls.graph_launch(handle, stream.handle)
        try device.driver.check(result, "launching a step")
    }

    deinit { _ = unsafe device.driver.calls.graph_executable_destroy(handle) }
}

/// Host memory the device can copy from and to without the host's help.
@safe
struct PinnedMemory: ~Copyable {
    private let device: Device
    /// `byteCount` bytes, zeroed.
    let bytes: UnsafeMutableRawBufferPointer

    init(byteCount: Int, device: Device) throws(BackendError) {
        var address: UnsafeMutableRawPointer?
        let result = unsafe device.driver.calls.host_allocate(&address, byteCount, 0)
        guard result == 0, let address = unsafe address else {
            throw .outOfMemory(byteCount: byteCount, purpose: "pinned host memory")
        }
        self.device = device
        unsafe bytes = UnsafeMutableRawBufferPointer(start: address, count: byteCount)
        unsafe bytes.initializeMemory(as: UInt8.self, repeating: 0)
    }

    deinit { _ = unsafe device.driver.calls.host_free(bytes.baseAddress) }
}
