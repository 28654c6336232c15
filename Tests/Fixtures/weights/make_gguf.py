"""Makes gguf/formats.gguf: a tensor of each type of random blocks, and beside it the floats it decodes to.

Decoded by the `gguf` package (0.19.0, gguf.quants.dequantize); `q4_k` has its floats in the F32 tensor `q4_k.values`.
Also gguf/split-0000N-of-00003.gguf, which the package's writer splits. Run with that package and numpy installed.
"""

import pathlib

import numpy
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize

# Where a block has f16 numbers, by type.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [],
}
ROWS, COLUMNS = 3, 512


def blocks(name: str, random: numpy.random.Generator) -> numpy.ndarray:
    """Rows of random blocks: any bits, but scales that are numbers; among them zero, a subnormal and the largest."""
    elements, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    data = random.integers(0, 256, (ROWS * COLUMNS // elements, size), dtype=numpy.uint8)
    for place in HALVES[name]:
        scales = random.normal(size=len(data)).astype(numpy.float16)
        scales[: 3] = [0, 5.96e-08, 65504]
        data[:, place : place + 2] = scales.view(numpy.uint8).reshape(-1, 2)
    if name == "MXFP4":
        data[:4, 0] = [0, 1, 2, 250]
    return data.reshape(ROWS, -1)


def formats(folder: pathlib.Path) -> None:
    random = numpy.random.default_rng(9)
    writer = GGUFWriter(folder / "formats.gguf", "formats")
    for name in HALVES:
        data = blocks(name, random)
        kind = GGMLQuantizationType[name]
        writer.add_tensor(name.lower(), data, raw_dtype=kind)
        writer.add_tensor(f"{name.lower()}.values", dequantize(data, kind).reshape(ROWS, COLUMNS))
    floats = random.normal(size=(ROWS, COLUMNS)).astype(numpy.float32)
    for name in ["F16", "BF16"]:
        kind = GGMLQuantizationType[name]
        bits = floats.astype(numpy.float16) if name == "F16" else (floats.view(numpy.uint32) >> 16).astype(numpy.uint16)
        writer.add_tensor(name.lower(), bits if name == "F16" else bits.view(numpy.uint8), raw_dtype=kind)
        values = bits.astype(numpy.float32) if name == "F16" else (bits.astype(numpy.uint32) << 16).view(numpy.float32)
        writer.add_tensor(f"{name.lower()}.values", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def split(folder: pathlib.Path) -> None:
    writer = GGUFWriter(folder / "split.gguf", "llama", split_max_tensors=2)
    writer.add_uint32("llama.block_count", 1)
    for index in range(5):
        writer.add_tensor(f"tensor.{index}", numpy.arange(8, dtype=numpy.float32) + 8 * index)
    writer.write_header_to_file(folder / "split.gguf")
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    target = pathlib.Path(__file__).parent / "gguf"
    target.mkdir(exist_ok=True)
    formats(target)
    split(target)
