// The driver's functions, and what its errors mean in a sentence.
//
// Nothing here knows about models or steps. Every call that can fail goes through `check`, which turns a code into a
// typed error with the operation's name.

import CUDADriver
import Tensors

/// The functions of a CUDA driver: NVIDIA's, opened at run time, or those of an emulator.
///
/// Safe to hold: a table of functions that never changes. Calling one is what needs care.
@safe
package final class Driver {
    /// The functions by name. Any thread may call them; a context must be current on it for most.
    let calls: cuda_driver

    /// Opens NVIDIA's driver library.
    /// - Throws: `BackendError.unsupported` when there is none, or one too old.
    package init(library: String = "libcuda.so.1") throws(BackendError) {
        var calls = cuda_driver()
        var reason = [CChar](repeating: 0, count: 512)
        let result = unsafe cuda_driver_open(library, &calls, &reason, reason.count)
        guard result == 0 else {
            let text = String(decoding: reason.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            throw .unsupported(operation: "CUDA", reason: "no usable NVIDIA driver was found (\(text))")
        }
        self.calls = calls
    }

    /// Uses the functions of `calls`, all of which must be set.
    package init(_ calls: cuda_driver) { self.calls = calls }

    /// Throws what `result` means, unless it means success.
    func check(_ result: cuda_result, _ operation: String) throws(BackendError) {
        if result != 0 { throw .deviceFailure(operation: operation, reason: describe(result)) }
    }

    /// The driver's name for an error and its explanation.
    func describe(_ result: cuda_result) -> String {
        var name: UnsafePointer<CChar>?
        var text: UnsafePointer<CChar>?
        guard unsafe calls.error_name(result, &name) == 0, let name = unsafe name else { return "error \(result)" }
        guard unsafe calls.error_string(result, &text) == 0, let text = unsafe text else {
            return unsafe String(cString: name)
        }
        return unsafe "\(String(cString: name)) (\(String(cString: text)))"
    }
}
