// That AddressSanitizer, where it is compiled in (`make test-slow`), sees what the kernels touch.

import CUDADriver
import CUDAEmulator
import CUDAKernels
import Testing

extension EmulatedDevice {
    @Suite(.serialized, .enabled(if: cuda_emulator_is_sanitized())) struct SanitizerTests {
        @Test func `a kernel that stays inside goes on`() async {
            await #expect(processExitsWith: .success) { try EmulatedDevice.double(variant: 0) }
        }

        @Test func `a kernel that writes an element past an allocation ends the process`() async throws {
            let result = try #require(
                await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
                    try EmulatedDevice.double(variant: 1)
                })
            #expect(reports(result))
        }

        @Test func `a kernel that reads an element before an allocation ends the process`() async throws {
            let result = try #require(
                await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
                    try EmulatedDevice.double(variant: 2)
                })
            #expect(reports(result))
        }

        @Test func `a kernel that writes past its shared memory ends the process`() async throws {
            let result = try #require(
                await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
                    try EmulatedDevice.double(variant: 3)
                })
            #expect(reports(result))
        }

        /// Whether the sanitizer names what happened, and the kernel it happened in.
        private func reports(_ result: ExitTest.Result) -> Bool {
            let text = String(decoding: result.standardErrorContent, as: UTF8.self)
            return text.contains("AddressSanitizer: use-after-poison") && text.contains("apus_example_double")
        }
    }

    /// Runs the example that doubles 250 numbers, with one of its mistakes, through the driver.
    static func double(variant: Int32) throws {
        let calls = EmulatedDevice.calls
        var (context, module): (cuda_handle?, cuda_handle?) = (nil, nil)
        var (stream, function): (cuda_handle?, cuda_handle?) = (nil, nil)
        var (input, output): (cuda_pointer, cuda_pointer) = (0, 0)
        try #require(calls.`init`(0) == 0)
        unsafe try #require(calls.context_retain(&context, 0) == 0)
        unsafe try #require(calls.context_set_current(context) == 0)
        unsafe try #require(calls.module_load(&module, CUDA_EMULATOR_IMAGE) == 0)
        unsafe try #require(calls.module_function(&function, module, "apus_example_double") == 0)
        unsafe try #require(calls.stream_create(&stream, 0) == 0)
        unsafe try #require(calls.memory_allocate(&input, 1000) == 0)
        unsafe try #require(calls.memory_allocate(&output, 1000) == 0)
        var arguments = cuda_example_arguments(a: input, b: 0, output: output, variant: variant, unused: 0)
        unsafe try withUnsafeMutablePointer(to: &arguments) { pointer in
            var parameter: UnsafeMutableRawPointer? = UnsafeMutableRawPointer(pointer)
            unsafe try #require(calls.launch(function, 1, 1, 1, 250, 1, 1, 1000, stream, &parameter, nil) == 0)
        }
        unsafe try #require(calls.stream_synchronize(stream) == 0)
    }
}
