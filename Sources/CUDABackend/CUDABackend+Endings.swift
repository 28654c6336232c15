// Products whose results are changed before they are stored (Kernels/cuda/endings.cuh).
//
// Within a step the latest product is held back until the next operation shows what becomes of it: a bias, a rotation
// and the cache, or a norm is then done at its end; anything else, or the end of the step, launches it as it is. So is
// a sum over ranks by our own kernels, which may end in a norm. Memory and bits are those of one operation after the
// other, so nobody has to know.

import CUDADriver
import CUDAKernels
import Tensors

/// A product that has not been launched.
struct HeldProduct {
    let x: Tensor
    let matrix: cuda_matrix
    let output: Tensor
    let mode: LinearMode
    var ending = cuda_ending()

    /// Whether `tensor` is what the product is stored in.
    func isStored(in tensor: Tensor) -> Bool {
        output.address == tensor.address && output.shape == tensor.shape && x.rowCount == tensor.rowCount
    }
}

/// A sum over ranks that has not been launched.
struct HeldSum {
    let x: Tensor
    let peers: cuda_peers

    var arguments: cuda_all_reduce_arguments {
        cuda_all_reduce_arguments(peers: peers, x: cuda_address(x.address), count: Int64(x.elementCount))
    }
}

/// What rows are rotated by.
struct Rotation: Hashable {
    let positions: UInt
    let frequencies: UInt
    let magnitude: UInt32
    let rows: Int

    /// Sets of frequencies that a step may have, and bytes of one: 128 pairs.
    static let mostTables = 4
    static let tableBytes = Int(CUDA_ENDING_HEADS_TOKENS) * 128 * 8
}

/// Memory of products that are ended.
struct EndingScratch {
    /// How many blocks of a product that ends in a norm are done; zero between launches.
    let arrivals: DeviceBuffer
    /// Cosines and sines of a step's rows, for a few sets of frequencies.
    let rotations: DeviceBuffer

    init(device: Device, stream: borrowing Stream) throws(BackendError) {
        let arrivals = try device.allocate(byteCount: 64, purpose: "arrivals of blocks")
        let cleared = unsafe device.driver.calls.fill(
            cuda_pointer(arrivals.address), 0, arrivals.byteCount, stream.handle)
        try device.driver.check(cleared, "clearing arrivals of blocks")
        self.arrivals = arrivals
        rotations = try device.allocate(
            byteCount: Rotation.mostTables * Rotation.tableBytes, purpose: "cosines and sines")
    }
}

extension CUDABackend {
    /// Holds the product back if something may be done at its end.
    func hold(_ x: Tensor, _ weight: CUDAWeight, into output: Tensor, mode: LinearMode) -> Bool {
        guard isInStep, x.rowCount <= Int(CUDA_ENDING_HEADS_TOKENS), weight.segments.count == 1,
            output.rowCount == x.rowCount
        else { return false }
        settle()
        held = HeldProduct(x: x, matrix: weight.segments[0].matrix, output: output, mode: mode)
        return true
    }

    /// Holds the sum back if a norm may be done at its end.
    func hold(sumOf x: Tensor, _ peers: cuda_peers) -> Bool {
        guard isInStep, x.elementCount <= Int(peers.staging_count),
            cuda_all_reduce_norm_fits(Int64(x.rowCount), Int64(x.rowElementCount), peers.ranks) != 0
        else { return false }
        settle()
        heldSum = HeldSum(x: x, peers: peers)
        return true
    }

    /// Launches what is held back, if there is something: a product or a sum.
    func settle() {
        if let sum = heldSum {
            heldSum = nil
            unsafe launch(cuda_all_reduce_launch, sum.arguments, "sum")
        }
        guard let product = held else { return }
        held = nil
        multiply(
            product.x, product.matrix, into: floats(product.output), stride: product.output.rowElementCount,
            mode: product.mode, ending: product.ending)
    }

    /// Adds the bias at the end of the product that is held back, if `x` is that product's.
    func addHeld(_ bias: Tensor, to x: Tensor) -> Bool {
        guard let product = held, product.isStored(in: x), product.ending.kind == Int32(CUDA_ENDING_PLAIN),
            product.ending.bias == 0
        else { return false }
        held?.ending.bias = floats(bias)
        return true
    }

    /// Rotates at its end.
    func rotateHeld(
        _ x: Tensor, heads: Int, headDim: Int, positions: Tensor, frequencies: Tensor, magnitude: Float,
        layout: RotaryLayout
    ) -> Bool {
        guard var product = held, product.isStored(in: x), product.mode == .overwrite,
            product.ending.kind == Int32(CUDA_ENDING_PLAIN), headDim <= 256, 2 * frequencies.elementCount == headDim,
            Int(product.matrix.pairs) == (layout == .interleaved ? 1 : headDim / 2),
            Int(product.matrix.rows) % headDim == 0
        else { return false }
        let rotation = Rotation(
            positions: positions.address, frequencies: frequencies.address, magnitude: magnitude.bitPattern,
            rows: x.rowCount)
        let known = rotations[rotation]
        let index = known ?? rotations.count
        guard index < Rotation.mostTables else { return false }
        let table = cuda_address(endings.rotations.address) + cuda_address(index * Rotation.tableBytes)
        if known == nil {
            rotations[rotation] = index
            // Not the end of the product: nobody waits for its results yet.
            held = nil
            let arguments = cuda_rotary_table_arguments(
                positions: integers(positions), frequencies: floats(frequencies), table: table,
                token_count: Int32(x.rowCount), frequency_count: Int32(frequencies.elementCount), magnitude: magnitude,
                unused: 0)
            unsafe launch(cuda_rotary_table_launch, arguments, "cosines and sines")
        }
        product.ending.kind = Int32(CUDA_ENDING_HEADS)
        product.ending.rotation = table
        product.ending.rotated_rows = Int32(heads * headDim)
        product.ending.cache.head_dim = Int32(headDim)
        held = product
        return true
    }

    /// Stores keys and values at its end, and launches it.
    func storeHeld(
        _ qkv: Tensor, keyOffset: Int, valueOffset: Int, kvHeads: Int, headDim: Int, slots: Tensor, cache: KVLayer
    ) -> Bool {
        let values = kvHeads * headDim
        guard var product = held, product.isStored(in: qkv), product.mode == .overwrite, cache.type == .bfloat16,
            headDim % 16 == 0, keyOffset % headDim == 0, valueOffset == keyOffset + values,
            Int(product.matrix.rows) == valueOffset + values, slots.elementCount >= qkv.rowCount,
            product.ending.rotation == 0 || Int(product.ending.cache.head_dim) == headDim
        else { return false }
        product.ending.kind = Int32(CUDA_ENDING_HEADS)
        product.ending.slots = integers(slots)
        product.ending.cache = layer(cache, kvHeads: kvHeads, headDim: headDim)
        (product.ending.key_row, product.ending.value_row) = (Int32(keyOffset), Int32(valueOffset))
        held = product
        settle()
        return true
    }

    /// Normalizes at its end, and launches it.
    func normalizeHeld(_ x: Tensor, weight: Tensor, epsilon: Float, into output: Tensor) -> Bool {
        guard var product = held, product.isStored(in: x), product.ending.kind == Int32(CUDA_ENDING_PLAIN),
            x.rowCount <= Int(CUDA_ENDING_NORM_TOKENS), x.rowElementCount == Int(product.matrix.rows),
            x.rowElementCount % 4 == 0, x.address % 16 == 0, weight.address % 16 == 0, output.address % 8 == 0,
            output.rowElementCount == x.rowElementCount
        else { return false }
        product.ending.norm_weight = floats(weight)
        product.ending.normed = halves(output)
        let codes = self.codes(ofNorm: output.prefix(rows: x.rowCount))
        (product.ending.codes, product.ending.code_scales) = (codes.address, codes.scales)
        product.ending.arrivals = cuda_address(endings.arrivals.address)
        product.ending.epsilon = epsilon
        held = product
        settle()
        return true
    }

    /// Normalizes the rows of the sum that is held back, and launches both as one.
    func normalizeSum(_ x: Tensor, weight: Tensor, epsilon: Float, into output: Tensor) -> Bool {
        guard let sum = heldSum, sum.x.address == x.address, sum.x.shape == x.shape, weight.address % 16 == 0,
            output.address % 8 == 0, output.rowElementCount == x.rowElementCount
        else { return false }
        heldSum = nil
        var ending = cuda_ending()
        ending.norm_weight = floats(weight)
        ending.normed = halves(output)
        let codes = self.codes(ofNorm: output.prefix(rows: x.rowCount))
        (ending.codes, ending.code_scales) = (codes.address, codes.scales)
        ending.epsilon = epsilon
        let arguments = cuda_all_reduce_norm_arguments(
            sum: sum.arguments, ending: ending, rows: Int32(x.rowCount), columns: Int32(x.rowElementCount))
        unsafe launch(cuda_all_reduce_norm_launch, arguments, "a sum and its norm")
        return true
    }

    package func linearGated(
        _ x: Tensor, _ weight: PreparedWeight, _ activation: GateActivation, scratch: Tensor, into output: Tensor
    ) {
        precondition(
            x.rowElementCount == weight.columnCount && 2 * output.rowElementCount == weight.rowCount
                && output.rowCount >= x.rowCount)
        let segments = cudaWeight(weight).segments
        guard segments.count == 1, Int(segments[0].matrix.pairs) == output.rowElementCount else {
            linear(x, weight, into: scratch, mode: .overwrite)
            return gate(scratch, activation, into: output)
        }
        settle()
        forgetCodes(of: output)
        var ending = cuda_ending()
        ending.kind = Int32(CUDA_ENDING_GATE)
        (ending.gate, ending.limit) = activation.kernel
        multiply(
            x, segments[0].matrix, into: halves(output), stride: output.rowElementCount, mode: .overwrite,
            ending: ending)
    }
}
