"""Makes safetensors/plain and safetensors/sharded: small files as Hugging Face's libraries write them.

Run with `safetensors` and `torch` installed.
"""

import json
import pathlib

import torch
from safetensors.torch import save_file


def plain(folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    values = (torch.arange(12) * 0.5 - 2).reshape(3, 4)
    tensors = {
        "single": values, "half": values.half(), "brain": values.bfloat16(), "scalar": torch.tensor(3.5),
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def sharded(folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    index = {"metadata": {"total_size": 48}, "weight_map": {}}
    for part in range(2):
        name = f"model-{part + 1:05}-of-00002.safetensors"
        tensors = {}
        for layer in [2 * part, 2 * part + 1]:
            tensors[f"layer.{layer}.weight"] = (torch.arange(6) + 6 * layer).reshape(2, 3).bfloat16()
            index["weight_map"][f"layer.{layer}.weight"] = name
        save_file(tensors, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    target = pathlib.Path(__file__).parent / "safetensors"
    plain(target / "plain")
    sharded(target / "sharded")
