// A GPU, or a MIG instance of one: its context, its memory and what it can do.

import CUDADriver
import Tensors

/// Which device to compute on.
package enum DeviceChoice: Sendable, Equatable {
    /// The first one the driver shows.
    case first
    /// The n-th one the driver shows; `CUDA_VISIBLE_DEVICES` decides which those are.
    case ordinal(Int)
    /// The one whose UUID starts like this: `GPU-…` or `MIG-…`, or the hexadecimal digits alone.
    case uuid(String)
}

/// What a device says of itself.
package struct DeviceProperties: Sendable, Equatable {
    package let name: String
    /// 16 bytes as lower-case groups of hexadecimal digits, without `GPU-` or `MIG-`.
    package let uuid: String
    /// Major × 10 + minor: 90 for an H200.
    package let computeCapability: Int
    /// As many as the process may use: an MPS limit shows here.
    package let multiprocessorCount: Int
    package let maxSharedBytesPerBlock: Int
    /// Major × 1000 + minor × 10 of the driver's CUDA version.
    package let driverVersion: Int
}

/// A device with its primary context, which is current on the thread that made it: the engine's.
@safe
package final class Device {
    let driver: Driver
    package let properties: DeviceProperties
    private let ordinal: Int32
    private let context: cuda_handle?
    /// The rank that computes on it, where it is one of several; and the one that a kernel of it waited for in vain.
    var membership: Membership?
    var missedRank: (() -> Int?)?

    /// - Throws: `BackendError.unsupported` when there is no such device or it is older than Ampere.
    package init(_ choice: DeviceChoice, driver: Driver) throws(BackendError) {
        (ordinal, properties) = try Self.look(choice, driver: driver)
        self.driver = driver
        let calls = driver.calls
        var context: cuda_handle?
        try driver.check(unsafe calls.context_retain(&context, ordinal), "creating a context")
        unsafe self.context = unsafe context
        try driver.check(unsafe calls.context_set_current(context), "entering the context")
    }

    deinit { _ = driver.calls.context_release(ordinal) }

    /// The chosen device's number and what it says of itself; nothing is created on it.
    /// - Throws: `BackendError.unsupported` when there is no such device or it is older than Ampere.
    package static func look(
        _ choice: DeviceChoice, driver: Driver
    ) throws(BackendError) -> (ordinal: Int32, properties: DeviceProperties) {
        let calls = driver.calls
        let started = calls.`init`(0)
        guard started == 0 else {
            throw .unsupported(operation: "CUDA", reason: "the driver did not start: \(driver.describe(started))")
        }
        var count: Int32 = 0
        try driver.check(unsafe calls.device_count(&count), "counting devices")
        let all: [(ordinal: Int32, properties: DeviceProperties)] = try (0..<count).map { index throws(BackendError) in
            var device: Int32 = 0
            try driver.check(unsafe calls.device_get(&device, index), "opening device \(index)")
            return (ordinal: device, properties: try Self.properties(of: device, driver: driver))
        }
        guard let found = try choose(choice, among: all.map(\.properties)) else {
            throw .unsupported(operation: "CUDA", reason: "the driver shows no device")
        }
        let properties = all[found].properties
        guard properties.computeCapability >= 80 else {
            throw .unsupported(
                operation: properties.name,
                reason: "its compute capability is \(properties.computeCapability / 10)."
                    + "\(properties.computeCapability % 10), and the kernels need 8.0 (Ampere) or later")
        }
        return all[found]
    }

    /// Bytes of device memory that are free now, for every process that shares the device, and in all.
    package func memory() throws(BackendError) -> (free: Int, total: Int) {
        var free = 0
        var total = 0
        try driver.check(unsafe driver.calls.memory_info(&free, &total), "reading free memory")
        return (free, total)
    }

    /// `byteCount` bytes of device memory; freed with the buffer.
    func allocate(byteCount: Int, purpose: String) throws(BackendError) -> DeviceBuffer {
        var address: cuda_pointer = 0
        let size = max(byteCount, 256)
        guard unsafe driver.calls.memory_allocate(&address, size) == 0 else {
            throw .outOfMemory(byteCount: byteCount, purpose: purpose)
        }
        return DeviceBuffer(address: UInt(address), byteCount: size) { address, _ in
            _ = self.driver.calls.memory_free(cuda_pointer(address))
        }
    }

    // MARK: Ranks

    /// Waits by `body`. Where the device is a rank's, others see since when; and whatever ends its group ends the wait.
    func wait(_ operation: String, _ body: () -> cuda_result) throws(BackendError) {
        guard let membership else { return try driver.check(body(), operation) }
        let start = ContinuousClock.now
        let result = membership.progress.waiting(body)
        if result != 0 {
            let count = membership.shard.count
            let missed = missedRank?()
            _ = membership.ranks.end(
                missed.map { Shard(rank: $0, of: count) } ?? membership.shard, call: "a step",
                elapsed: start.duration(to: .now),
                reason: missed == nil ? "failed during \(operation): \(driver.describe(result))" : "did not come")
        }
        if let failure = membership.ranks.group.failure { throw .rankFailure(failure) }
    }

    var contextAddress: UInt { unsafe UInt(bitPattern: context) }

    /// Lets kernels on this device read and write the memory of another rank's.
    func reach(contextAt address: UInt) throws(BackendError) {
        let result = unsafe driver.calls.context_reach(cuda_handle(bitPattern: address), 0)
        if result != CUDA_ERROR_ALREADY_REACHED { try driver.check(result, "reaching another rank's device") }
    }

    private static func properties(of device: Int32, driver: Driver) throws(BackendError) -> DeviceProperties {
        let calls = driver.calls
        var name = [CChar](repeating: 0, count: 128)
        try driver.check(unsafe calls.device_name(&name, Int32(name.count - 1), device), "reading a device's name")
        var bytes = [UInt8](repeating: 0, count: 16)
        try driver.check(unsafe calls.device_uuid(&bytes, device), "reading a device's UUID")
        var version: Int32 = 0
        try driver.check(unsafe calls.driver_version(&version), "reading the driver's version")
        func attribute(_ attribute: Int) throws(BackendError) -> Int {
            var value: Int32 = 0
            let result = unsafe calls.device_attribute(&value, Int32(attribute), device)
            try driver.check(result, "reading a device's attributes")
            return Int(value)
        }
        return DeviceProperties(
            name: String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self),
            uuid: uuidText(bytes),
            computeCapability: try attribute(Int(CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)) * 10
                + attribute(Int(CUDA_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)),
            multiprocessorCount: try attribute(Int(CUDA_ATTRIBUTE_MULTIPROCESSOR_COUNT)),
            maxSharedBytesPerBlock: try attribute(Int(CUDA_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)),
            driverVersion: Int(version))
    }

    /// Index of the chosen device, or nil when there is none at all.
    static func choose(_ choice: DeviceChoice, among all: [DeviceProperties]) throws(BackendError) -> Int? {
        guard !all.isEmpty else { return nil }
        switch choice {
        case .first: return 0
        case .ordinal(let ordinal):
            guard all.indices.contains(ordinal) else {
                throw .unsupported(
                    operation: "CUDA device \(ordinal)", reason: "the driver shows \(all.count), numbered from 0")
            }
            return ordinal
        case .uuid(let text):
            var wanted = Substring(text.lowercased())
            for prefix in ["gpu-", "mig-"] where wanted.hasPrefix(prefix) { wanted = wanted.dropFirst(prefix.count) }
            let matches = all.indices.filter { !wanted.isEmpty && all[$0].uuid.hasPrefix(wanted) }
            guard matches.count == 1 else {
                let shown = all.map { "\($0.uuid) (\($0.name))" }.joined(separator: ", ")
                throw .unsupported(
                    operation: "CUDA device \(text)",
                    reason: "\(matches.isEmpty ? "no device has" : "\(matches.count) devices have") that UUID; "
                        + "the driver shows \(shown)")
            }
            return matches[0]
        }
    }

    private static func uuidText(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef")
        var text = ""
        for (index, byte) in bytes.enumerated() {
            if [4, 6, 8, 10].contains(index) { text.append("-") }
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return text
    }
}
