// Greedy steps: the head leaves the best of each sixteen of its rows, and a kernel of its own chooses among those.
// Logits, eight times as many bytes, are neither written nor read.

import CUDAKernels
import Tensors

/// Which steps left ranks in place of logits. Steps are captured, so that what one did is known from its first time.
struct GreedyRanking {
    /// [rows, tiles] u64
    private(set) var ranks: DeviceBuffer?
    private var shapes: Set<StepShape> = []
    private var current: StepShape?
    /// Whether the latest step left ranks.
    private(set) var isLatest = false

    /// Before the operations of a step are asked for, captured or not.
    mutating func begin(_ shape: StepShape) {
        current = shape
        shapes.remove(shape)
    }

    /// After a step was asked for, or replayed.
    mutating func end(_ shape: StepShape) {
        current = nil
        isLatest = shapes.contains(shape)
    }

    /// Notes that the step that is being asked for leaves ranks.
    mutating func note(_ memory: DeviceBuffer) {
        if let current { shapes.insert(current) }
        ranks = memory
    }

    /// Whether a step that may leave ranks is being asked for.
    var isPossible: Bool { current?.samplesGreedily ?? false }
}

extension CUDABackend {
    package func linearToChoose(_ x: Tensor, _ head: PreparedWeight, into logits: Tensor) {
        precondition(x.rowElementCount == head.columnCount && logits.rowElementCount == head.rowCount)
        precondition(logits.rowCount >= x.rowCount)
        // Ranks are of a single matrix.
        guard ranking.isPossible, cudaWeight(head).segments.count == 1 else {
            return linear(x, head, into: logits, mode: .overwrite)
        }
        let rowCapacity = logits.buffer.byteCount / (4 * head.rowCount)
        let byteCount = 8 * Self.tileCount(head.rowCount) * rowCapacity
        attempt { () throws(BackendError) in
            let memory: DeviceBuffer
            if let ranks = ranking.ranks, ranks.byteCount >= byteCount {
                memory = ranks
            } else {
                memory = try device.allocate(byteCount: byteCount, purpose: "ranks of greedy rows")
                dropGraphs()
            }
            ranking.note(memory)
            multiply(x, head, into: logits, mode: .overwrite, ranks: cuda_address(memory.address))
        }
    }

    private static func tileCount(_ rows: Int) -> Int { (rows + Int(CUDA_TILE_ROWS) - 1) / Int(CUDA_TILE_ROWS) }

    /// Chooses the best tokens of rows by the latest step's ranks, if it left some.
    /// - Returns: whether it did.
    func chooseByRanks(_ rows: [SamplingRow], vocab: Int) -> Bool {
        guard ranking.isLatest, let ranks = ranking.ranks else { return false }
        precondition(rows.allSatisfy(\.isPlainlyGreedy), "a step that said it was greedy, and was not")
        let arguments = cuda_sample_greedily_arguments(
            ranks: cuda_address(ranks.address), results: cuda_address(sampler.results.address),
            samples: sampler.samplesAddress, row_count: Int32(rows.count), tile_count: Int32(Self.tileCount(vocab)))
        unsafe launch(cuda_sample_greedily_launch, arguments, "sample greedily")
        return true
    }
}
