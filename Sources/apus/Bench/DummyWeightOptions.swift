// Where the weights of a measurement come from: a model's file, or random numbers in the shape of a known model.

import ArgumentParser
import Checkpoints
import Tensors

/// Where the weights come from.
enum LoadFormat: String, CaseIterable, ExpressibleByArgument {
    /// The file of the model.
    case auto
    /// Random numbers in the shape of a known model.
    case dummy
}

/// The options of measuring without a checkpoint.
struct DummyWeightOptions: ParsableArguments {
    @Option(help: "Where weights come from: the model's file, or random numbers (dummy).")
    var loadFormat = LoadFormat.auto
    @Option(
        help: ArgumentHelp(
            "The shape that random weights take.", valueName: ModelShape.all.map(\.name).joined(separator: "|")))
    var modelShape: String?
    @Option(
        help: ArgumentHelp(
            "The type of random matrices. (default: bf16)",
            valueName: Self.types.map(\.rawValue).joined(separator: "|")))
    var weights: String?

    private static let types: [DType] = [.bf16, .q8_0, .q4_0]

    /// The chosen shape; nil without random weights.
    var shape: ModelShape? { loadFormat == .dummy ? modelShape.flatMap { ModelShape.named($0) } : nil }

    var dtype: DType { weights.flatMap { name in Self.types.first { $0.rawValue == name } } ?? .bf16 }

    /// Throws a sentence when the options do not fit one another, or `model`.
    func check(model: String?) throws(ValidationError) {
        let shapes = ModelShape.all.map(\.name).joined(separator: ", ")
        if let modelShape, ModelShape.named(modelShape) == nil {
            throw ValidationError("--model-shape is '\(modelShape)', which is not one of \(shapes).")
        }
        if let weights, !Self.types.map(\.rawValue).contains(weights) {
            throw ValidationError(
                "--weights is '\(weights)', which is not one of \(Self.types.map(\.rawValue).joined(separator: ", ")).")
        }
        switch loadFormat {
        case .auto:
            guard modelShape == nil, weights == nil else {
                throw ValidationError(
                    "--model-shape and --weights describe random weights; give --load-format dummy too.")
            }
            guard model != nil else {
                throw ValidationError("Give a MODEL, or --load-format dummy with --model-shape (one of \(shapes)).")
            }
        case .dummy:
            guard model == nil else {
                throw ValidationError("--load-format dummy reads no model; leave '\(model ?? "")' out.")
            }
            guard modelShape != nil else {
                throw ValidationError("--load-format dummy needs --model-shape, one of \(shapes).")
            }
        }
    }
}
