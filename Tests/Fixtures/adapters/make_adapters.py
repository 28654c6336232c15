"""Makes the small LoRA adapters of this folder: random ones, and what the models compute with them.

Each folder gets adapter_config.json and adapter_model.safetensors as `peft` saves them, and expected.json: a prompt, the
logits of some of its positions in 32-bit floats, and the tokens that follow greedily. The models are those of
../checkpoints, and with a path the GGUF of the default model, read by `transformers` itself: GGUF keeps queries and keys
in another order than the adapter does. Matrices are bf16 values. Made with peft 0.21.2, transformers 5.19.0 and torch
2.13.0:  python make_adapters.py [path of the GGUF]
"""

import json
import pathlib
import sys

import peft
import torch
import transformers

GREEDY = 16
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
FOLDER = pathlib.Path(__file__).parent

# Name: model, and what the configuration says.
ADAPTERS = {
    "llama3-wide": ("llama3", dict(r=4, lora_alpha=8, target_modules=ATTENTION + ["gate_proj", "up_proj", "down_proj"])),
    "llama3-stable": ("llama3", dict(r=6, lora_alpha=3, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"])),
    "phi3-stacked": ("phi3", dict(r=2, lora_alpha=4, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"])),
    "smollm2": (None, dict(
        r=2, lora_alpha=4, target_modules=ATTENTION + ["gate_proj", "up_proj", "down_proj"],
        layers_to_transform=[0, 9, 19, 29])),
}


def base(name, gguf):
    if name is None:
        path = pathlib.Path(gguf)
        return transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return transformers.AutoModelForCausalLM.from_pretrained(
        FOLDER.parent / "checkpoints" / name, dtype=torch.float32, attn_implementation="eager")


def randomize(model, generator):
    """Changes about half as large as what they are added to."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" not in name:
                continue
            random = torch.randn(weight.shape, generator=generator)
            random = random / weight.shape[1]**0.5 * (0.4 if "lora_B" in name else 1.0)
            weight.copy_(random.to(torch.bfloat16).to(weight.dtype))


def greedy(model, prompt):
    tokens, margin = list(prompt), float("inf")
    for _ in range(GREEDY):
        with torch.no_grad():
            logits = model(torch.tensor([tokens]), use_cache=False).logits[0, -1]
        best = torch.topk(logits, 2).values
        margin = min(margin, float(best[0] - best[1]))
        tokens.append(int(logits.argmax()))
    return tokens[len(prompt):], margin


def prompt_of(name):
    if name is None:
        golden = json.loads((FOLDER.parent / "goldens" / "smollm2-transformers.json").read_text())
        return golden["completions"][0]["prompt_ids"]
    return json.loads((FOLDER.parent / "checkpoints" / name / "expected.json").read_text())["prompt"]


def make(name, gguf):
    model_name, settings = ADAPTERS[name]
    prompt = prompt_of(model_name)
    plain = greedy(base(model_name, gguf), prompt)[0]
    for seed in range(1, 100):
        model = peft.get_peft_model(base(model_name, gguf), peft.LoraConfig(task_type="CAUSAL_LM", **settings))
        model.eval()
        randomize(model, torch.Generator().manual_seed(seed))
        tokens, margin = greedy(model, prompt)
        if margin > 0.01 and len(set(tokens)) > 3 and tokens[:4] != plain[:4]:
            break
    else:
        raise SystemExit(f"{name}: no seed gives clear tokens")
    with torch.no_grad():
        logits = model(torch.tensor([prompt]), use_cache=False).logits[0]
    rows = sorted({0, len(prompt) // 2, len(prompt) - 1})
    # Of a real vocabulary, the best and some others.
    columns = [
        list(range(logits.shape[1])) if logits.shape[1] < 1000
        else torch.topk(logits[row], 24).indices.tolist() + list(range(7, logits.shape[1], logits.shape[1] // 24))
        for row in rows]
    target = FOLDER / name
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    model.save_pretrained(target)
    (target / "README.md").unlink(missing_ok=True)
    expected = {
        "seed": seed, "margin": round(margin, 4), "prompt": prompt, "greedy": tokens, "plain": plain, "rows": rows,
        "columns": columns,
        "logits": [[round(float(logits[row][c]), 6) for c in chosen] for row, chosen in zip(rows, columns)],
    }
    (target / "expected.json").write_text(json.dumps(expected) + "\n")
    config = target / "adapter_config.json"
    settings = json.loads(config.read_text())
    settings["base_model_name_or_path"] = model_name or "smollm2-135m-instruct"
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f"{name}: seed {seed}, margin {margin:.4f}, {size} bytes, tokens {tokens}, without {plain}")


if __name__ == "__main__":
    for name, (model, _) in ADAPTERS.items():
        if model is not None or len(sys.argv) > 1:
            make(name, sys.argv[1] if len(sys.argv) > 1 else None)
