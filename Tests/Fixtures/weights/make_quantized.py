"""Makes quantized/*: folders of quantized weights as their tools pack them, and the floats they stand for.

Packed by vLLM (0.32.0: GPTQ, AWQ) and compressed-tensors (0.17.0); `expected.safetensors` has scale · (code − zero) in
32-bit floats, by compressed-tensors' `dequantize` where it is theirs. Run with those, `safetensors` and `torch`.
"""

import json
import pathlib

import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization.lifecycle.forward import dequantize
from safetensors.torch import save_file
from vllm.model_executor.layers.quantization.utils.quant_utils import awq_pack, gptq_pack, pack_cols

ROWS, COLUMNS, GROUP = 16, 128, 32
TARGET = pathlib.Path(__file__).parent / "quantized"


def write(name: str, tensors: dict, expected: dict, config: dict) -> None:
    folder = TARGET / name
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    save_file({key: value.contiguous() for key, value in expected.items()}, folder / "expected.safetensors")
    (folder / "config.json").write_text(json.dumps({"quantization_config": config}, indent=1) + "\n")


def codes(bits: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, 1 << bits, shape, dtype=torch.int32)


def gptq(name: str, bits: int, shuffled: bool, version: str, has_wide_zero: bool = False) -> None:
    """`weight` is [columns, rows] here: GPTQ's tensors have inputs first."""
    groups = torch.arange(COLUMNS, dtype=torch.int32) // GROUP
    if shuffled:
        groups = groups[torch.randperm(COLUMNS)]
    weight, scales = codes(bits, COLUMNS, ROWS), torch.randn(COLUMNS // GROUP, ROWS).half() / 16
    zeros = codes(bits, COLUMNS // GROUP, ROWS)
    missing = 0 if version == "gptq_v2" else 1
    # The first format cannot store 0 but what needs another bit.
    zeros = zeros.clamp(min=missing)
    if has_wide_zero:
        zeros[0, 0] = 1 << bits
    packed = gptq_pack(weight, bits, COLUMNS, ROWS)
    packed_zeros = pack_cols(zeros - missing, bits, COLUMNS // GROUP, ROWS)
    values = scales.float()[groups.long()] * (weight - zeros[groups.long()]).float()
    tensors = {"l.qweight": packed, "l.qzeros": packed_zeros, "l.scales": scales, "l.g_idx": groups,
               "l.bias": torch.randn(ROWS).half()}
    config = {"quant_method": "gptq", "bits": bits, "group_size": GROUP, "desc_act": shuffled,
              "checkpoint_format": version}
    write(name, tensors, {"l.weight": values.T}, config)


def awq() -> None:
    weight, zeros = codes(4, COLUMNS, ROWS), codes(4, COLUMNS // GROUP, ROWS)
    scales = torch.randn(COLUMNS // GROUP, ROWS).half() / 16
    spread = lambda x: x.repeat_interleave(GROUP, 0)
    tensors = {"l.qweight": awq_pack(weight, 4, COLUMNS, ROWS),
               "l.qzeros": awq_pack(zeros, 4, COLUMNS // GROUP, ROWS), "l.scales": scales}
    values = spread(scales.float()) * (weight - spread(zeros)).float()
    write("awq", tensors, {"l.weight": values.T},
          {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm", "zero_point": True})


def compressed() -> None:
    tensors, expected = {}, {}

    def add(name: str, bits: int, scale: torch.Tensor, zero: torch.Tensor | None, packed: bool, index=None) -> None:
        weight = (codes(bits, ROWS, COLUMNS) - (1 << (bits - 1))).to(torch.int8)
        tensors[f"{name}.weight_scale"] = scale
        if packed:
            tensors[f"{name}.weight_packed"] = pack_to_int32(weight, bits)
            tensors[f"{name}.weight_shape"] = torch.tensor(weight.shape)
            if zero is not None:
                tensors[f"{name}.weight_zero_point"] = pack_to_int32(zero, bits, packed_dim=0)
        else:
            tensors[f"{name}.weight"] = weight
            if zero is not None:
                tensors[f"{name}.weight_zero_point"] = zero
        if index is not None:
            tensors[f"{name}.weight_g_idx"] = index
        expected[f"{name}.weight"] = dequantize(weight, scale.float(), zero, g_idx=index, dtype=torch.float32)

    groups = COLUMNS // GROUP
    zero = lambda bits, *shape: (codes(bits, *shape) - (1 << (bits - 1))).to(torch.int8)
    add("group4", 4, torch.randn(ROWS, groups).bfloat16(), None, True)
    add("group4_asymmetric", 4, torch.randn(ROWS, groups).bfloat16(), zero(4, ROWS, groups), True)
    add("channel8", 8, torch.randn(ROWS, 1).half(), None, True)
    add("int8_channel", 8, torch.randn(ROWS, 1), None, False)
    add("int8_asymmetric", 8, torch.randn(ROWS, 1).bfloat16(), zero(8, ROWS, 1), False)
    shuffled = (torch.arange(COLUMNS, dtype=torch.int32) // GROUP)[torch.randperm(COLUMNS)]
    add("group4_ordered", 4, torch.randn(ROWS, groups).half(), None, True, shuffled)
    config = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {}}
    write("compressed", tensors, expected, config)


def fp8() -> None:
    tensors, expected = {}, {}

    def add(name: str, rows: int, columns: int, scale: torch.Tensor, spread: torch.Tensor, suffix: str) -> None:
        weight = (torch.randn(rows, columns) * 100).to(torch.float8_e4m3fn)
        # The subnormals, both zeros and the largest.
        weight.view(torch.uint8)[0, :18] = torch.tensor([*range(8), *range(128, 136), 0x7E, 0xFE], dtype=torch.uint8)
        tensors[f"{name}.weight"] = weight
        tensors[f"{name}.{suffix}"] = scale
        expected[f"{name}.weight"] = weight.float() * spread

    scale = torch.tensor(0.0123)
    add("tensor", ROWS, COLUMNS, scale, scale, "weight_scale")
    tensors["tensor.input_scale"] = torch.tensor(1.5)
    scale = torch.rand(ROWS, 1) / 50
    add("channel", ROWS, COLUMNS, scale, scale, "weight_scale")
    scale = (torch.rand(ROWS, 1) / 50).bfloat16()
    add("channel_bf16", ROWS, COLUMNS, scale, scale.float(), "weight_scale")
    scale = torch.rand(2, 2) / 50
    spread = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)[:130, :160]
    add("block", 130, 160, scale, spread, "weight_scale_inv")
    write("fp8", tensors, expected,
          {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]})


if __name__ == "__main__":
    torch.manual_seed(9)
    gptq("gptq", 4, False, "gptq", has_wide_zero=True)
    gptq("gptq_v2_shuffled", 4, True, "gptq_v2")
    gptq("gptq8", 8, False, "gptq")
    gptq("gptq8_wide", 8, False, "gptq", has_wide_zero=True)
    awq()
    compressed()
    fp8()
