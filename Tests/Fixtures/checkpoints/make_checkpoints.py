"""Makes the small checkpoints of this folder: a random model of every architecture, and what it computes.

Each folder gets config.json and model.safetensors as `transformers` saves them, and expected.json: a prompt longer than
any window, the logits of some of its positions in 32-bit floats, and the tokens that follow greedily. Weights are bf16
values, so that files are small and 32-bit arithmetic starts from the same numbers everywhere. Made with transformers
5.19.0 and torch 2.13.0:  python make_checkpoints.py [architecture …]
"""

import json
import pathlib
import sys

import torch
import transformers

VOCABULARY = 160
PROMPT = 40
GREEDY = 16
# Two kinds of head: those of 64 features have CUDA kernels.
SHAPE = dict(
    vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, head_dim=64, max_position_embeddings=256, tie_word_embeddings=False, bos_token_id=0,
    eos_token_id=1, pad_token_id=None,
)


def config(kind, **changes):
    return kind(**{**SHAPE, **changes})


def rope(kind="default", theta=10000.0, **more):
    return {"rope_type": kind, "rope_theta": theta, **more}


ARCHITECTURES = {
    "llama3": lambda: config(
        transformers.LlamaConfig,
        rope_parameters=rope(
            "llama3", 500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=32)),
    "llama-linear": lambda: config(
        transformers.LlamaConfig, num_hidden_layers=1, tie_word_embeddings=True,
        rope_parameters=rope("linear", factor=2.5)),
    "llama-yarn": lambda: config(
        transformers.LlamaConfig, num_hidden_layers=1, tie_word_embeddings=True,
        rope_parameters=rope("yarn", factor=8.0, original_max_position_embeddings=32)),
    "mistral": lambda: config(transformers.MistralConfig, sliding_window=9, rope_parameters=rope()),
    "qwen2": lambda: config(transformers.Qwen2Config, tie_word_embeddings=True, rope_parameters=rope(theta=1e6)),
    "qwen3": lambda: config(transformers.Qwen3Config, rope_parameters=rope(theta=1e6)),
    "qwen3-moe": lambda: config(
        transformers.Qwen3MoeConfig, num_experts=6, num_experts_per_tok=3,
        moe_intermediate_size=24, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[],
        rope_parameters=rope(theta=1e6)),
    "mixtral": lambda: config(
        transformers.MixtralConfig, intermediate_size=32, num_local_experts=4,
        num_experts_per_tok=2, sliding_window=None, rope_parameters=rope(theta=1e6)),
    "gemma2": lambda: config(
        transformers.Gemma2Config, sliding_window=9, query_pre_attn_scalar=48, attn_logit_softcapping=4.0,
        final_logit_softcapping=12.0, tie_word_embeddings=True, rope_parameters=rope()),
    "gemma3": lambda: config(
        transformers.Gemma3TextConfig, num_hidden_layers=4, sliding_window=9, query_pre_attn_scalar=48,
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
        tie_word_embeddings=True,
        rope_parameters={
            "full_attention": rope("linear", 1e6, factor=4.0), "sliding_attention": rope(theta=10000.0),
        }),
    "phi3": lambda: config(
        transformers.Phi3Config, hidden_size=128, num_hidden_layers=1, partial_rotary_factor=0.75,
        max_position_embeddings=256, original_max_position_embeddings=24, tie_word_embeddings=True,
        sliding_window=None,
        rope_parameters=rope(
            "longrope", partial_rotary_factor=0.75, original_max_position_embeddings=24,
            short_factor=[1.0 + 0.02 * i for i in range(24)], long_factor=[1.0 + 0.4 * i for i in range(24)])),
    "smollm3": lambda: config(
        transformers.SmolLM3Config, num_hidden_layers=3, no_rope_layers=[1, 0, 1], use_sliding_window=False, tie_word_embeddings=True,
        rope_parameters=rope(theta=2e6)),
    "gpt-oss": lambda: config(
        transformers.GptOssConfig, num_local_experts=4, num_experts_per_tok=2,
        intermediate_size=48, sliding_window=9, layer_types=["sliding_attention", "full_attention"],
        rope_parameters=rope(
            "yarn", 150000.0, factor=8.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
            original_max_position_embeddings=32)),
}


def randomize(model, generator):
    """Weights large enough for every part to matter, rounded to bf16."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            random = torch.randn(weight.shape, generator=generator)
            if "norm" in name:
                is_offset = model.config.model_type.startswith("gemma")
                # Gemma adds 1 to what is stored; its layers must outweigh the embedding that is also the head.
                random = (2.0 if is_offset and "post_" in name else 0.0 if is_offset else 1.0) + 0.3 * random
            elif name.endswith("embed_tokens.weight"):
                random = random * (0.5 if model.config.model_type.startswith("gemma") else 1.0)
            elif weight.dim() >= 2 and not name.endswith("bias"):
                columns = weight.shape[-2] if model.config.model_type == "gpt_oss" and weight.dim() == 3 \
                    else weight.shape[-1]
                random = random * 1.6 / columns**0.5
            else:
                random = random * 0.5
            weight.copy_(random.to(torch.bfloat16).to(weight.dtype))


def greedy(model, prompt):
    """The tokens that follow, and the smallest distance of a best logit from the second."""
    tokens, margin = list(prompt), float("inf")
    for _ in range(GREEDY):
        with torch.no_grad():
            logits = model(torch.tensor([tokens]), use_cache=False).logits[0, -1]
        best = torch.topk(logits, 2).values
        margin = min(margin, float(best[0] - best[1]))
        tokens.append(int(logits.argmax()))
    return tokens[len(prompt):], margin


def make(name, folder):
    for seed in range(1, 200):
        generator = torch.Generator().manual_seed(seed)
        configuration = ARCHITECTURES[name]()
        configuration._attn_implementation = "eager"
        model = transformers.AutoModelForCausalLM.from_config(configuration, dtype=torch.float32)
        model.eval()
        randomize(model, generator)
        prompt = torch.randint(2, VOCABULARY, (PROMPT,), generator=generator).tolist()
        tokens, margin = greedy(model, prompt)
        # Sampled tokens should not hang on the last bits, and should not all be the same.
        if margin > 0.01 and len(set(tokens)) > 3:
            break
    else:
        raise SystemExit(f"{name}: no seed gives clear tokens")
    with torch.no_grad():
        logits = model(torch.tensor([prompt]), use_cache=False).logits[0]
    rows = [0, 1, 8, 9, 10, 25, PROMPT - 1]
    target = folder / name
    model.to(torch.bfloat16).save_pretrained(target)
    (target / "generation_config.json").unlink(missing_ok=True)
    expected = {
        "seed": seed, "margin": round(margin, 4), "prompt": prompt, "greedy": tokens,
        "rows": rows, "logits": [[round(float(x), 6) for x in logits[row]] for row in rows],
    }
    (target / "expected.json").write_text(json.dumps(expected) + "\n")
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f"{name}: seed {seed}, margin {margin:.4f}, {size} bytes, tokens {tokens}")


if __name__ == "__main__":
    for name in sys.argv[1:] or ARCHITECTURES:
        make(name, pathlib.Path(__file__).parent)
