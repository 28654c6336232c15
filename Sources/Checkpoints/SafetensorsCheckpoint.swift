// A Hugging Face folder's weights: one safetensors file, or several with an index, under Hugging Face's names.
//
// Tensors lie in the mapped files until they are asked for. Where the weights are quantized, the tensors that belong
// to one weight are presented as that weight, converted when it is asked for to a form that holds the same values.

import Foundation
import JSON
import Tensors

/// The weights of a Hugging Face folder.
package final class SafetensorsCheckpoint: TensorSource, Sendable {
    package let path: String
    package let tensorNames: [String]
    /// Size of the files in bytes.
    package let byteCount: Int
    private let files: [SafetensorsFile]
    private let places: [String: Place]
    private let quantized: QuantizedWeights

    /// A tensor's file and its description.
    struct Place: Sendable {
        let file: MappedFile
        let info: SafetensorsInfo
    }

    /// Opens the folder at `path`, or the one safetensors file it names.
    ///
    /// - Parameter quantization: what config.json says about quantized weights.
    package convenience init(
        path: String, quantization: QuantizationConfig? = nil, limits: SafetensorsLimits = SafetensorsLimits()
    ) throws(CheckpointError) {
        var isFolder: ObjCBool = false
        guard unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw .cannotOpen(file: path, reason: "there is no such file or folder")
        }
        guard isFolder.boolValue else {
            let file = try SafetensorsFile(path: path, limits: limits)
            try self.init(path: path, [file], index: nil, quantization: quantization)
            return
        }
        let folder = path.hasSuffix("/") ? String(path.dropLast()) : path
        let indexPath = folder + "/model.safetensors.index.json"
        if FileManager.default.fileExists(atPath: indexPath) {
            let index = try SafetensorsIndex(MappedFile(path: indexPath), limits: limits)
            var files: [SafetensorsFile] = []
            for name in index.fileNames {
                files.append(try SafetensorsFile(path: folder + "/" + name, limits: limits))
            }
            try self.init(path: path, files, index: index, quantization: quantization)
        } else if FileManager.default.fileExists(atPath: folder + "/model.safetensors") {
            let file = try SafetensorsFile(path: folder + "/model.safetensors", limits: limits)
            try self.init(path: path, [file], index: nil, quantization: quantization)
        } else {
            throw Self.refusal(ofFolder: folder)
        }
    }

    /// - Parameter index: where each tensor is said to be, if there are several files.
    package init(
        path: String, _ files: [SafetensorsFile], index: SafetensorsIndex?, quantization: QuantizationConfig? = nil
    ) throws(CheckpointError) {
        var places: [String: Place] = [:]
        var names: [String] = []
        for file in files {
            for info in file.tensors {
                guard places.updateValue(Place(file: file.mapping, info: info), forKey: info.name) == nil else {
                    throw .malformed(
                        file: file.path, offset: 8, field: "tensor \(printable(info.name))",
                        actual: "in another file too", expected: "one tensor per name")
                }
                names.append(info.name)
            }
        }
        try index?.require(files)
        self.path = path
        self.files = files
        self.places = places
        let quantized = try QuantizedWeights(places, config: quantization)
        self.quantized = quantized
        let parts = quantized.parts
        tensorNames =
            names.filter { !parts.contains($0) } + quantized.weights.keys.sorted() + quantized.experts.keys.sorted()
        byteCount = files.reduce(0) { $0 + $1.mapping.byteCount }
    }

    package func storedTensor(_ name: String) -> SourceTensor? {
        if let weight = quantized.weights[name] { return SourceTensor(tensor: weight.converted(), infoOffset: 8) }
        if let weight = quantized.experts[name] { return SourceTensor(tensor: weight.converted(), infoOffset: 8) }
        guard let place = places[name], !quantized.parts.contains(name), let dtype = place.info.type.dtype else {
            return nil
        }
        return SourceTensor(
            tensor: place.file.tensor(name, dtype, shape: place.info.shape, in: place.info.byteRange), infoOffset: 8)
    }

    package func storedTensor(_ name: String, cut: TensorCut) throws(CheckpointError) -> SourceTensor? {
        guard let form = quantizedForm(of: name) else { return try storedTensor(name)?.part(cut, file: path) }
        try cut.require(form.shape, of: name, file: path, offset: 8)
        if cut.axis == form.shape.count - 1 {
            try cut.requireWholeBlocks(of: form.dtype, columns: cut.extent, name: name, file: path)
        }
        let part = quantized.weights[name]?.converted(cut) ?? quantized.experts[name]?.converted(cut)
        return part.map { SourceTensor(tensor: $0, infoOffset: 8) }
    }

    package func form(of name: String) -> TensorForm? {
        if let form = quantizedForm(of: name) { return form }
        guard let info = places[name]?.info, !quantized.parts.contains(name), let dtype = info.type.dtype else {
            return nil
        }
        return TensorForm(dtype: dtype, shape: info.shape)
    }

    /// What the tensors that belong to a quantized weight become.
    private func quantizedForm(of name: String) -> TensorForm? {
        if let weight = quantized.weights[name] {
            return TensorForm(dtype: weight.dtype, shape: [weight.rows, weight.columns])
        }
        return quantized.experts[name].map { TensorForm(dtype: .mxfp4, shape: $0.shape) }
    }

    package func requireUnchanged() throws(CheckpointError) {
        for file in files { try file.mapping.requireUnchanged() }
    }

    /// Why a folder without safetensors files is none of ours.
    private static func refusal(ofFolder folder: String) -> CheckpointError {
        for name in ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model.pt", "model.ckpt"]
        where FileManager.default.fileExists(atPath: folder + "/" + name) {
            return .unsupported(
                file: folder + "/" + name, offset: 0, field: "the format", actual: "PyTorch's, a Python pickle",
                supported: "safetensors and GGUF, which cannot run code when they are read")
        }
        return .cannotOpen(
            file: folder, reason: "it has neither model.safetensors nor model.safetensors.index.json")
    }
}

/// model.safetensors.index.json: which file has which tensor.
package struct SafetensorsIndex: Sendable {
    /// The files' names, without a folder, in the order of the alphabet.
    package let fileNames: [String]
    private let path: String
    private let weightMap: [JSONValue.Member]

    /// Reads and checks an index.
    package init(_ file: MappedFile, limits: SafetensorsLimits = SafetensorsLimits()) throws(CheckpointError) {
        path = file.path
        guard file.byteCount <= limits.headerBytes else {
            throw .overLimit(
                file: path, offset: 0, field: "the index's size", actual: UInt64(file.byteCount),
                limit: UInt64(limits.headerBytes))
        }
        try file.refusePickle()
        var json = JSONLimits()
        json.depth = 8
        json.membersPerObject = limits.tensorCount
        let members = try object(
            unsafe [UInt8](file.bytes), offset: 0, field: "the index", limits: json, file: path)
        guard let map = members.first(where: { $0.name == "weight_map" }) else {
            throw .missingMetadata(file: path, key: "weight_map")
        }
        guard case .object(let weightMap) = map.value, !weightMap.isEmpty else {
            throw .malformed(
                file: path, offset: 0, field: "weight_map", actual: map.value.summary,
                expected: "an object of tensors' names and files' names")
        }
        var names: Set<String> = []
        for entry in weightMap {
            guard case .string(let name) = entry.value, Self.isPlain(name) else {
                throw .malformed(
                    file: path, offset: 0, field: "the file of \(printable(entry.name))", actual: entry.value.summary,
                    expected: "the plain name of a safetensors file beside the index")
            }
            names.insert(name)
        }
        fileNames = names.sorted()
        self.weightMap = weightMap
    }

    /// Whether `name` is that of a file and of nothing else, wherever it is put.
    private static func isPlain(_ name: String) -> Bool {
        name.hasSuffix(".safetensors") && name.utf8.count <= 255 && !name.hasPrefix(".")
            && name.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "\\") }
    }

    /// Throws unless each tensor is in the file that the index names, and the files have no other.
    func require(_ files: [SafetensorsFile]) throws(CheckpointError) {
        var actual: [String: String] = [:]
        for (file, name) in zip(files, fileNames) {
            for tensor in file.tensors { actual[tensor.name] = name }
        }
        for entry in weightMap {
            guard case .string(let file) = entry.value, actual[entry.name] == file else {
                throw .malformed(
                    file: path, offset: 0, field: "the file of \(printable(entry.name))", actual: entry.value.summary,
                    expected: actual[entry.name].map { JSONValue.quoted($0) } ?? "a file that has the tensor")
            }
        }
        guard weightMap.count == actual.count else {
            let mapped = Set(weightMap.map(\.name))
            let extra = actual.keys.filter { !mapped.contains($0) }.min() ?? ""
            throw .malformed(
                file: path, offset: 0, field: "weight_map", actual: "without \(printable(extra))",
                expected: "every tensor of its files")
        }
    }
}
