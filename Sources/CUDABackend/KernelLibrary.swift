// The compiled kernels: modules loaded from fatbins, and every kernel found by its id.

import CUDADriver
import CUDAKernels
import Tensors

/// Compiled kernels as they lie in files. Whoever starts the backend finds and reads them.
package struct KernelImages: Sendable {
    /// Where they came from, for messages.
    package let origin: String
    /// The families' fatbins, by name.
    package let images: [(name: String, bytes: [UInt8])]
    /// Which of them to use, and how.
    package var use = KernelUse()

    package init(origin: String, images: [(name: String, bytes: [UInt8])]) {
        self.origin = origin
        self.images = images
    }
}

/// What a device of compute capability 9.0 does with its kernels; others have no choice.
package struct KernelUse: Sendable, Equatable {
    /// Whether it computes with the kernels for it alone, and not with those for 8.0.
    package var takesHopper = true
    /// Whether kernels may begin before those in front of them have ended.
    package var overlaps = true

    package init() {}
}

/// All kernels of this version, ready to launch.
@safe
struct KernelLibrary {
    private let modules: [Module.Owner]
    /// [CUDA_KERNEL_COUNT]
    var kernels: [Kernel]

    /// - Throws: `BackendError.unsupported` when a kernel is missing or the images are of another version.
    init(_ images: KernelImages, device: Device) throws(BackendError) {
        var modules: [Module.Owner] = []
        for image in images.images {
            modules.append(Module.Owner(try Module(image.bytes, name: image.name, device: device)))
        }
        var kernels: [Kernel] = []
        for id in 0..<Int32(CUDA_KERNEL_COUNT) {
            guard let text = unsafe cuda_kernel_name(id) else { continue }
            let name = unsafe String(cString: text)
            guard let kernel = modules.lazy.compactMap({ $0.module.function(name) }).first else {
                throw .unsupported(
                    operation: "the kernels in \(images.origin)",
                    reason: "\(name) is missing; they are of another version. Rebuild them with `make kernels`")
            }
            kernels.append(kernel)
        }
        self.modules = modules
        self.kernels = kernels
    }
}

extension Module {
    /// A module in an array, which holds copyable elements only.
    final class Owner {
        let module: Module
        init(_ module: consuming Module) { self.module = module }
    }
}
