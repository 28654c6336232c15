// The target of this process. Not in main.swift: a function that C calls cannot capture what stands there.

import Foundation
import FuzzTargets

enum Fuzzed {
    static let target: FuzzTarget = {
        let name = ProcessInfo.processInfo.environment["APUS_FUZZ_TARGET"] ?? ""
        guard let target = FuzzTarget(rawValue: name) else {
            let names = FuzzTarget.allCases.map(\.rawValue).joined(separator: ", ")
            print("APUS_FUZZ_TARGET is '\(name)', but must be one of: \(names).")
            exit(64)
        }
        return target
    }()
}

/// Runs one input.
func runFuzzed(_ bytes: UnsafePointer<UInt8>?, _ byteCount: Int) -> Int32 {
    do throws(BrokenPromise) {
        unsafe try Fuzzed.target.run(Array(UnsafeBufferPointer(start: bytes, count: byteCount)))
    } catch {
        fatalError("\(error)")
    }
    return 0
}
