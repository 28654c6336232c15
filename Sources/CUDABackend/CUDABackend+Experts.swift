// Mixtures of experts: the device routes, sorts and multiplies; the host knows only how many routes there are.

import CUDADriver
import CUDAKernels
import Tensors

/// The experts of one layer as the kernels find them.
struct ExpertTables {
    /// [experts, parts] cuda_expert_matrix each.
    let gateUp: Table
    let down: Table
    /// Keeps what the tables name, and the identity they are found by.
    let weights: ExpertWeights

    /// Matrices of all experts, some parts each.
    struct Table {
        let matrices: DeviceBuffer
        let parts: Int
        /// The most rows of a part.
        let partRows: Int
        /// Storage formats that occur, ascending: a launch for each.
        let formats: [Int32]
    }
}

/// Memory of the routes of one step, or of a run of its rows; sized at the first step for the largest.
struct ExpertScratch {
    /// [routes] i32, f32 and i32.
    let experts: DeviceBuffer
    let shares: DeviceBuffer
    let order: DeviceBuffer
    let items: DeviceBuffer
    /// [routes, 2 × ffn] f32, [routes, ffn] bf16 and [routes, hidden] f32.
    let gateUp: DeviceBuffer
    let gated: DeviceBuffer
    let results: DeviceBuffer
    /// Rows of activations at a time.
    let rowCount: Int
    let shape: [Int]

    /// What all rows' routes may take; more rows take turns.
    static let mostBytes = 256 << 20
}

extension CUDABackend {
    package func mixExperts(
        _ x: Tensor, logits: Tensor, _ experts: ExpertWeights, routing: ExpertRouting, activation: GateActivation,
        into output: Tensor
    ) {
        guard let first = experts.down.first else { preconditionFailure("there are no experts") }
        let (hidden, ffn) = (first.rowCount, first.columnCount)
        precondition(x.rowElementCount == hidden && output.rowElementCount == hidden && output.rowCount >= x.rowCount)
        precondition(logits.rowElementCount == experts.gateUp.count && logits.rowCount >= x.rowCount)
        precondition((1...experts.gateUp.count).contains(routing.usedCount))
        let rowCapacity = x.buffer.byteCount / max(1, 2 * hidden)
        attempt { () throws(BackendError) in
            let tables = try expertTables(experts)
            let scratch = try expertScratch(
                rowCapacity: rowCapacity, [routing.usedCount, hidden, ffn, experts.gateUp.count])
            for row in stride(from: 0, to: x.rowCount, by: scratch.rowCount) {
                let step = ExpertStep(
                    tables: tables, scratch: scratch, routing: routing, firstRow: row,
                    rowCount: min(scratch.rowCount, x.rowCount - row), hidden: hidden, ffn: ffn)
                route(step, logits: logits)
                multiply(step, tables.gateUp, halves(x), row: row, scratch.gateUp, ffn: 2 * ffn)
                gate(step, activation)
                multiply(step, tables.down, cuda_address(scratch.gated.address), row: nil, scratch.results, ffn: ffn)
                combine(step, into: output)
            }
        }
    }

    // MARK: Launches

    private func route(_ step: ExpertStep, logits: Tensor) {
        let count = logits.rowElementCount
        let choice = cuda_route_experts_arguments(
            logits: floats(logits) + cuda_address(4 * step.firstRow * count), experts: step.experts,
            shares: step.shares, token_count: Int32(step.rowCount), expert_count: Int32(count), used: step.used,
            is_normalized: step.routing.isNormalized ? 1 : 0)
        unsafe launch(cuda_route_experts_launch, choice, "choosing experts")
        let groups = cuda_group_routes_arguments(
            experts: step.experts, order: step.order, items: step.items, route_count: step.routeCount,
            expert_count: Int32(count),
            item_routes: cuda_expert_item_routes(step.routeCount, Int32(count)),
            item_count: cuda_expert_item_count(step.routeCount, Int32(count)))
        unsafe launch(cuda_group_routes_launch, groups, "sorting rows by expert")
    }

    /// - Parameter row: the first of the input's rows where routes share them; nil where each has its own.
    private func multiply(
        _ step: ExpertStep, _ table: ExpertTables.Table, _ x: cuda_address, row: Int?, _ output: DeviceBuffer, ffn: Int
    ) {
        let columns = row == nil ? step.ffn : step.hidden
        let rows = row == nil ? step.hidden : 2 * step.ffn
        for format in table.formats {
            let arguments = cuda_expert_linear_arguments(
                matrices: cuda_address(table.matrices.address), order: step.order, items: step.items,
                x: x + cuda_address(2 * (row ?? 0) * columns), output: cuda_address(output.address),
                route_count: step.routeCount, expert_count: Int32(step.tables.weights.gateUp.count),
                parts: Int32(table.parts), part_rows: Int32(table.partRows), format: format,
                routes_of_input_row: row == nil ? 1 : step.used, x_stride: Int32(columns), output_stride: Int32(rows),
                shared_limit: Int32(clamping: device.properties.maxSharedBytesPerBlock), unused: 0)
            unsafe launch(cuda_expert_linear_launch, arguments, "products of experts")
        }
    }

    private func gate(_ step: ExpertStep, _ activation: GateActivation) {
        let (kind, limit) = activation.kernel
        let arguments = cuda_gate_experts_arguments(
            x: cuda_address(step.scratch.gateUp.address), bias: step.tables.weights.gateUpBias.map { floats($0) } ?? 0,
            experts: step.experts, output: cuda_address(step.scratch.gated.address), route_count: step.routeCount,
            ffn: Int32(step.ffn), kind: kind, limit: limit)
        unsafe launch(cuda_gate_experts_launch, arguments, "gates of experts")
    }

    private func combine(_ step: ExpertStep, into output: Tensor) {
        let arguments = cuda_combine_experts_arguments(
            results: cuda_address(step.scratch.results.address),
            bias: step.tables.weights.downBias.map { floats($0) } ?? 0, experts: step.experts, shares: step.shares,
            output: floats(output) + cuda_address(4 * step.firstRow * step.hidden), token_count: Int32(step.rowCount),
            used: step.used, hidden: Int32(step.hidden), unused: 0)
        unsafe launch(cuda_combine_experts_launch, arguments, "adding up experts")
    }

    // MARK: Tables and memory

    private func expertTables(_ experts: ExpertWeights) throws(BackendError) -> ExpertTables {
        let identity = ObjectIdentifier(experts.gateUp[0])
        if let tables = expertTables[identity] { return tables }
        let tables = ExpertTables(
            gateUp: try table(experts.gateUp), down: try table(experts.down), weights: experts)
        expertTables[identity] = tables
        return tables
    }

    private func table(_ weights: [PreparedWeight]) throws(BackendError) -> ExpertTables.Table {
        let parts = weights.map { cudaWeight($0).segments }
        let partCount = parts.map(\.count).max() ?? 0
        precondition(parts.allSatisfy { $0.count == partCount }, "experts of one layer have equally many parts")
        let matrices = parts.joined().map {
            cuda_expert_matrix(matrix: $0.matrix, first_row: Int32($0.firstRow), unused: 0)
        }
        let buffer = try device.allocate(
            byteCount: matrices.count * MemoryLayout<cuda_expert_matrix>.stride, purpose: "a table of experts")
        unsafe matrices.withUnsafeBytes { unsafe enqueue($0, to: buffer.address) }
        return ExpertTables.Table(
            matrices: buffer, parts: partCount, partRows: Int(matrices.map(\.matrix.rows).max() ?? 0),
            formats: Set(matrices.map(\.matrix.format)).sorted())
    }

    /// - Parameter shape: experts used, hidden, ffn, experts.
    private func expertScratch(rowCapacity: Int, _ shape: [Int]) throws(BackendError) -> ExpertScratch {
        let (used, hidden, ffn, count) = (shape[0], shape[1], shape[2], shape[3])
        let rowBytes = used * (8 * ffn + 2 * ffn + 4 * hidden + 16)
        let rows = max(1, min(rowCapacity, ExpertScratch.mostBytes / rowBytes))
        if let scratch = expertScratch, scratch.shape == shape, scratch.rowCount >= rows { return scratch }
        let routes = rows * used
        // Fewer routes may make more items: each holds less.
        let items = routes / Int(cuda_expert_item_routes(1, 1)) + count
        func memory(_ byteCount: Int) throws(BackendError) -> DeviceBuffer {
            try device.allocate(byteCount: byteCount, purpose: "routes to experts")
        }
        let scratch = ExpertScratch(
            experts: try memory(4 * routes), shares: try memory(4 * routes), order: try memory(4 * routes),
            items: try memory(items * MemoryLayout<cuda_expert_item>.stride), gateUp: try memory(routes * 8 * ffn),
            gated: try memory(routes * 2 * ffn), results: try memory(routes * 4 * hidden), rowCount: rows, shape: shape)
        expertScratch = scratch
        dropGraphs()
        return scratch
    }
}

/// Rows that go through a layer's experts together.
private struct ExpertStep {
    let tables: ExpertTables
    let scratch: ExpertScratch
    let routing: ExpertRouting
    let firstRow: Int
    let rowCount: Int
    let hidden: Int
    let ffn: Int

    var used: Int32 { Int32(routing.usedCount) }
    var routeCount: Int32 { Int32(rowCount * routing.usedCount) }
    var experts: cuda_address { cuda_address(scratch.experts.address) }
    var shares: cuda_address { cuda_address(scratch.shares.address) }
    var order: cuda_address { cuda_address(scratch.order.address) }
    var items: cuda_address { cuda_address(scratch.items.address) }
}
