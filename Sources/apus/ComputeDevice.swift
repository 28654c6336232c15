// Which device to compute on: what was asked for, what is there, and why.
//
// Looking costs milliseconds and creates no context: only the driver's library and the kernels' files are opened.

import CUDABackend
import Foundation
import Tensors

/// The device that was decided on, before anything is allocated on it.
enum ComputeDevice: Sendable {
    /// - Parameter reason: why not a GPU, when one might have been expected.
    case cpu(reason: String?)
    case cuda(DeviceChoice, KernelImages)

    var isGPU: Bool {
        if case .cuda = self { true } else { false }
    }

    /// What an operator should know of the choice: why not a GPU, or which limits of the environment hold on it.
    func notes(environment: [String: String]) -> [String] {
        switch self {
        case .cpu(let reason): return reason.map { ["Computing on the CPU. \($0)"] } ?? []
        case .cuda:
            // The driver honours these by itself; the numbers reported for the device are those they leave.
            let names = [
                "CUDA_VISIBLE_DEVICES", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
            ]
            let limits = names.compactMap { name in environment[name].map { "\(name)=\($0)" } }
            return limits.isEmpty ? [] : ["The GPU is limited by \(limits.joined(separator: ", "))."]
        }
    }

    /// - Throws: `BackendError.unsupported` when a GPU is asked for and cannot be used.
    static func choose(_ settings: ResolvedSettings) throws(BackendError) -> ComputeDevice {
        let places = KernelFolder.places(given: settings.text(.kernels))
        switch settings.text(.device).flatMap({ DeviceSetting($0) }) ?? .auto {
        case .cpu: return .cpu(reason: nil)
        case .cuda(let gpu):
            _ = try Driver()
            return .cuda(DeviceChoice(gpu), try KernelFolder.load(places, settings))
        case .auto:
            guard settings.text(.dtype) != "float32" else { return .cpu(reason: nil) }
            let driver: Driver
            // A machine without a driver is the usual case and needs no word.
            do { driver = try Driver() } catch { return .cpu(reason: nil) }
            do {
                _ = try Device.look(.first, driver: driver)
                return .cuda(.first, try KernelFolder.load(places, settings))
            } catch {
                return .cpu(reason: error.description)
            }
        }
    }
}

extension DeviceChoice {
    init(_ gpu: DeviceSetting.GPU) {
        self =
            switch gpu {
            case .first: .first
            case .ordinal(let ordinal): .ordinal(ordinal)
            case .uuid(let uuid): .uuid(uuid)
            }
    }
}

/// The folder of compiled kernels.
enum KernelFolder {
    /// Where kernels are looked for, in order: the folder that was given, or `kernels` beside the binary and, for a
    /// binary that was built in its package, where `make kernels` puts them.
    static func places(given: String?) -> [URL] {
        if let given { return [URL(fileURLWithPath: given)] }
        let binary = (Bundle.main.executableURL ?? URL(fileURLWithPath: CommandLine.arguments.first ?? "apus"))
            .resolvingSymlinksInPath().deletingLastPathComponent()
        return [
            binary.appendingPathComponent("kernels"),
            binary.deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("kernels"),
        ]
    }

    /// The fatbins of the first of `places` that has any, to be used as the settings say.
    static func load(_ places: [URL], _ settings: ResolvedSettings) throws(BackendError) -> KernelImages {
        var images = try load(places)
        let use = settings.text(.cudaKernels)
        images.use.takesHopper = use != "sm80"
        images.use.overlaps = use == "auto"
        return images
    }

    /// The fatbins of the first of `places` that has any.
    static func load(_ places: [URL]) throws(BackendError) -> KernelImages {
        for place in places where FileManager.default.fileExists(atPath: place.path) {
            var images: [(name: String, bytes: [UInt8])] = []
            do {
                for name in try FileManager.default.contentsOfDirectory(atPath: place.path).sorted()
                where name.hasSuffix(".fatbin") {
                    let file = place.appendingPathComponent(name)
                    images.append((name: name, bytes: [UInt8](try Data(contentsOf: file))))
                }
            } catch {
                throw .unsupported(
                    operation: "the kernels in \(place.path)", reason: "they cannot be read (\(error))")
            }
            if !images.isEmpty { return KernelImages(origin: place.path, images: images) }
        }
        throw .unsupported(
            operation: "CUDA",
            reason: "there are no compiled kernels in \(places.map(\.path).joined(separator: " or ")). "
                + "Run `make kernels`, or name their folder with --kernels")
    }
}
