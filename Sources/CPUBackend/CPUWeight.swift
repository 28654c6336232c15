// A weight repacked for the CPU kernels: row blocks of one storage format each, rows interleaved within groups.

import CPUKernels
import Tensors

/// What stands behind a `PreparedWeight` of `CPUBackend`.
///
/// Safe to hold: the segments' memory belongs to `buffer`, and `segments` to this object.
@safe
final class CPUWeight {
    /// What the C kernels read.
    let descriptor: cpu_weight
    private let buffer: DeviceBuffer
    private let segments: UnsafeMutableBufferPointer<cpu_segment>

    /// - Parameter segments: allocated by the caller, owned by the weight from here on.
    init(
        rowCount: Int, columnCount: Int, buffer: DeviceBuffer, segments: UnsafeMutableBufferPointer<cpu_segment>
    ) {
        self.buffer = buffer
        unsafe self.segments = unsafe segments
        unsafe descriptor = unsafe cpu_weight(
            rows: Int64(rowCount), columns: Int64(columnCount), segment_count: Int64(segments.count),
            segments: segments.baseAddress, first_token: -1)
    }

    deinit { unsafe segments.deallocate() }
}
