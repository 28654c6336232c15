// Host memory that uploads pass through, so that the caller's array may change the moment `upload` returns.
//
// A ring of segments: a segment is written again only when the device has read what was in it.

import CUDADriver
import Tensors

/// Pinned memory for uploads in flight.
@safe
struct StagingRing {
    private static let segmentCount = 4

    private let device: Device
    private let memory: PinnedMemory.Owner
    private let segmentBytes: Int
    /// [segments] recorded after the last copy out of each.
    private let events: [Event.Owner]
    private var segment = 0
    private var used = 0

    /// - Parameter segmentBytes: of each of four segments; a multiple of 256.
    init(segmentBytes: Int, device: Device) throws(BackendError) {
        var events: [Event.Owner] = []
        for _ in 0..<Self.segmentCount { events.append(Event.Owner(try Event(device: device))) }
        let memory = PinnedMemory.Owner(
            try PinnedMemory(byteCount: Self.segmentCount * segmentBytes, device: device))
        self.device = device
        self.segmentBytes = segmentBytes
        self.events = events
        self.memory = memory
    }

    /// Copies host bytes to the device's `address`, in the order of `stream`.
    mutating func upload(_ source: UnsafeRawBufferPointer, to address: UInt, stream: borrowing Stream)
        throws(BackendError)
    {
        var done = 0
        while done < source.count {
            let room = try unsafe room(stream)
            let count = min(source.count - done, room.count)
            unsafe room.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[done..<done + count]))
            try unsafe send(room, count: count, to: address + UInt(done), stream: stream)
            done += count
        }
    }

    /// What is left of the segment, for the caller to fill and `send`.
    mutating func room(_ stream: borrowing Stream) throws(BackendError) -> UnsafeMutableRawBufferPointer {
        if used == segmentBytes {
            try events[segment].event.record(stream)
            segment = (segment + 1) % Self.segmentCount
            used = 0
            try events[segment].event.wait("waiting for uploads")
        }
        let start = segment * segmentBytes + used
        return unsafe UnsafeMutableRawBufferPointer(
            rebasing: memory.memory.bytes[start..<(segment + 1) * segmentBytes])
    }

    /// Copies the first `count` bytes of `room` to the device and counts them as used.
    mutating func send(
        _ room: UnsafeMutableRawBufferPointer, count: Int, to address: UInt, stream: borrowing Stream
    ) throws(BackendError) {
        let result = unsafe device.driver.calls.copy_to_device(
            cuda_pointer(address), room.baseAddress, count, stream.handle)
        try device.driver.check(result, "uploading \(count) bytes")
        used += (count + 255) / 256 * 256
    }
}

extension Event {
    /// An event in an array, which holds copyable elements only.
    final class Owner {
        let event: Event
        init(_ event: consuming Event) { self.event = event }
    }
}
