// The emulated driver: as late, as strict and as unforgiving as a real one may be.

import CUDADriver
import CUDAEmulator
import CUDAKernels
import Testing

extension EmulatedDevice {
    /// Each test has the whole device to itself.
    @safe @Suite(.serialized) final class EmulatedDriverTests {
        private let calls: cuda_driver
        private var stream: cuda_handle?
        private var double: cuda_handle?
        private var input: cuda_pointer = 0
        private var output: cuda_pointer = 0
        private let host: UnsafeMutablePointer<Float>

        init() throws {
            cuda_emulator_reset()
            calls = unsafe try #require(cuda_emulator_driver()).pointee
            var (context, module): (cuda_handle?, cuda_handle?) = (nil, nil)
            var pinned: UnsafeMutableRawPointer?
            #expect(calls.`init`(0) == 0)
            unsafe #expect(calls.context_retain(&context, 0) == 0)
            unsafe #expect(calls.context_set_current(context) == 0)
            unsafe #expect(calls.module_load(&module, CUDA_EMULATOR_IMAGE) == 0)
            unsafe #expect(calls.module_function(&double, module, "apus_example_double") == 0)
            unsafe #expect(calls.stream_create(&stream, 0) == 0)
            unsafe #expect(calls.memory_allocate(&input, 1024) == 0)
            unsafe #expect(calls.memory_allocate(&output, 1024) == 0)
            unsafe #expect(calls.host_allocate(&pinned, 1024, 0) == 0)
            unsafe host = try #require(pinned).bindMemory(to: Float.self, capacity: 256)
        }

        deinit { cuda_emulator_reset() }

        @Test func `pinned memory is read and written when the stream gets there`() {
            unsafe host.update(repeating: 1, count: 256)
            unsafe #expect(calls.copy_to_device(input, host, 1024, stream) == 0)
            #expect(launchDouble() == 0)
            unsafe #expect(calls.copy_to_host(host, output, 1024, stream) == 0)
            unsafe #expect(host[0] == 1)
            unsafe host[0] = 21
            unsafe #expect(calls.stream_synchronize(stream) == 0)
            unsafe #expect((host[0], host[255]) == (42, 2))
        }

        @Test func `other memory is copied before the call returns`() {
            var values = [Float](repeating: 3, count: 256)
            unsafe #expect(calls.copy_to_device(input, &values, 1024, stream) == 0)
            values[0] = 4
            #expect(launchDouble() == 0)
            unsafe #expect(calls.copy_to_host(&values, output, 1024, stream) == 0)
            #expect(values == [Float](repeating: 6, count: 256))
        }

        @Test func `a graph does again what was captured, and nothing ran before`() {
            var (graph, executable): (cuda_handle?, cuda_handle?) = (nil, nil)
            unsafe #expect(calls.capture_begin(stream, Int32(CUDA_CAPTURE_MODE_THREAD_LOCAL)) == 0)
            unsafe #expect(calls.copy_to_device(input, host, 1024, stream) == 0)
            #expect(launchDouble() == 0)
            unsafe #expect(calls.copy_to_host(host, output, 1024, stream) == 0)
            unsafe #expect(calls.capture_end(stream, &graph) == 0)
            unsafe #expect(calls.graph_instantiate(&executable, graph, 0) == 0)
            unsafe #expect(calls.graph_destroy(graph) == 0)
            unsafe host[0] = 1
            for power in 1...3 {
                unsafe #expect(calls.graph_launch(executable, stream) == 0)
                unsafe #expect(calls.stream_synchronize(stream) == 0)
                unsafe #expect(host[0] == Float(1 << power))
            }
            unsafe #expect(cuda_emulator_calls("launch") == 1)
            unsafe #expect(cuda_emulator_calls("graph_launch") == 3)
        }

        @Test func `allocating spoils a capture`() {
            var graph: cuda_handle?
            var address: cuda_pointer = 0
            unsafe #expect(calls.capture_begin(stream, Int32(CUDA_CAPTURE_MODE_THREAD_LOCAL)) == 0)
            unsafe #expect(calls.memory_allocate(&address, 16) == 900)
            unsafe #expect(calls.capture_end(stream, &graph) == 901)
        }

        @Test func `a stream waits for what another has recorded`() {
            var (other, event): (cuda_handle?, cuda_handle?) = (nil, nil)
            unsafe #expect(calls.stream_create(&other, 0) == 0)
            unsafe #expect(calls.event_create(&event, 0) == 0)
            unsafe host.update(repeating: 5, count: 256)
            unsafe #expect(calls.copy_to_device(input, host, 1024, stream) == 0)
            #expect(launchDouble() == 0)
            unsafe #expect(calls.event_record(event, stream) == 0)
            var milliseconds: Float = 0
            unsafe #expect(calls.event_elapsed(&milliseconds, event, event) == CUDA_ERROR_NOT_READY)
            unsafe #expect(calls.stream_wait_event(other, event, 0) == 0)
            unsafe #expect(calls.copy_to_host(host, output, 1024, other) == 0)
            unsafe #expect(calls.stream_synchronize(other) == 0)
            unsafe #expect(host[255] == 10)
        }

        @Test func `a copy past an allocation loses the device`() {
            unsafe #expect(calls.copy_to_device(input + 16, host, 1024, stream) == 0)
            unsafe #expect(calls.stream_synchronize(stream) == 700)
            unsafe #expect(calls.fill(input, 0, 1024, stream) == 700)
            #expect(cuda_emulator_live_allocations() == 3)
            #expect(calls.memory_free(input) == 700)
            #expect(cuda_emulator_live_allocations() == 2)
            #expect(cuda_emulator_live_bytes() == 1024)
        }

        @Test func `an error of a synchronization stays, one of an allocation does not`() {
            var address: cuda_pointer = 0
            #expect(unsafe cuda_emulator_fail("memory_allocate", 1, 2))
            unsafe #expect(calls.memory_allocate(&address, 16) == 0)
            unsafe #expect(calls.memory_allocate(&address, 16) == 2)
            unsafe #expect(calls.memory_allocate(&address, 16) == 0)
            #expect(unsafe cuda_emulator_fail("stream_synchronize", 0, 719))
            unsafe #expect(calls.stream_synchronize(stream) == 719)
            unsafe #expect(calls.memory_allocate(&address, 16) == 719)
            #expect(unsafe !cuda_emulator_fail("no such call", 0, 1))
        }

        @Test func `memory has an end`() {
            var address: cuda_pointer = 0
            cuda_emulator_configure(2, 4096, UInt32(CUDA_EMULATOR_SHARED_BYTES))
            unsafe #expect(calls.memory_allocate(&address, 2049) == 2)
            unsafe #expect(calls.memory_allocate(&address, 2048) == 0)
            var (free, total) = (0, 0)
            unsafe #expect(calls.memory_info(&free, &total) == 0)
            #expect((free, total) == (0, 4096))
        }

        @Test func `nothing works without a context`() {
            var address: cuda_pointer = 0
            #expect(calls.context_set_current(nil) == 0)
            unsafe #expect(calls.memory_allocate(&address, 16) == 201)
            unsafe #expect(calls.stream_synchronize(stream) == 201)
        }

        @Test func `more than 48 KiB of shared memory have to be asked for`() {
            #expect(launchDouble(sharedBytes: 48 * 1024 + 1) == 1)
            let attribute = Int32(CUDA_FUNCTION_MAX_DYNAMIC_SHARED_SIZE_BYTES)
            unsafe #expect(calls.function_set_attribute(double, attribute, 64 * 1024) == 0)
            #expect(launchDouble(sharedBytes: 48 * 1024 + 1) == 0)
        }

        /// output = 2 · input, 256 values.
        private func launchDouble(sharedBytes: UInt32 = 0) -> cuda_result {
            var arguments = cuda_example_arguments(a: input, b: 0, output: output, variant: 0, unused: 0)
            return unsafe withUnsafeMutablePointer(to: &arguments) { pointer in
                var parameter: UnsafeMutableRawPointer? = UnsafeMutableRawPointer(pointer)
                return unsafe calls.launch(double, 1, 1, 1, 256, 1, 1, sharedBytes, stream, &parameter, nil)
            }
        }
    }
}
