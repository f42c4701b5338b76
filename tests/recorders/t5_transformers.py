"""Adds what transformers computes for the T5 models of `variants/written.py` to their data.

`python -m recorders.t5_transformers FOLDER OUT.npz`, where torch, transformers and gguf are
installed, after `recorders/written.py`. "transformers" are logits (16, 128) of the same positions.
"""

import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch  # type: ignore[import-not-found]
import transformers  # type: ignore[import-not-found]

STACKS = {"enc": "encoder", "dec": "decoder"}
KINDS = {"t5": ("relu", "T5"), "t5.gated": ("gated-gelu", "UMT5")}


def _tensors(path: Path) -> dict[str, Any]:
    return {
        tensor.name: torch.tensor(np.array(tensor.data).reshape(tensor.shape[::-1].tolist()))
        for tensor in gguf.GGUFReader(path).tensors
    }


def _blocks(tensors: dict[str, Any], stack: str) -> dict[str, Any]:
    """The tensors of all layers of a stack by their names in transformers."""
    places = {"attn": "0.SelfAttention", "cross_attn": "1.EncDecAttention"}
    last = 2 if stack == "dec" else 1
    names = {"attn_norm": "0.layer_norm", "cross_attn_norm": "1.layer_norm"}
    names |= {f"{a}_{x}": f"{place}.{x}" for a, place in places.items() for x in "qkvo"}
    names |= {"attn_rel_b": "0.SelfAttention.relative_attention_bias"}
    gated = f"{stack}.blk.0.ffn_gate.weight" in tensors
    network = {"ffn_gate": "wi_0", "ffn_up": "wi_1" if gated else "wi", "ffn_down": "wo"}
    names |= {"ffn_norm": f"{last}.layer_norm"}
    names |= {own: f"{last}.DenseReluDense.{name}" for own, name in network.items()}
    out = {}
    for full, tensor in tensors.items():
        if full.startswith(f"{stack}.blk."):
            layer, part = full.split(".")[2:4]
            out[f"{STACKS[stack]}.block.{layer}.layer.{names[part]}.weight"] = tensor
    return out


def _model(tensors: dict[str, Any], network: str, family: str) -> Any:
    config = getattr(transformers, f"{family}Config")(
        vocab_size=128, d_model=64, d_kv=24, d_ff=96, num_layers=3, num_decoder_layers=2,
        num_heads=4, layer_norm_epsilon=1e-5, feed_forward_proj=network,
    )  # fmt: skip
    model = getattr(transformers, f"{family}ForConditionalGeneration")(config).eval()
    state = _blocks(tensors, "enc") | _blocks(tensors, "dec")
    for stack, name in STACKS.items():
        state[f"{name}.final_layer_norm.weight"] = tensors[f"{stack}.output_norm.weight"]
    missing = model.load_state_dict(state, strict=False)
    if missing.unexpected_keys or any("block" in key for key in missing.missing_keys):
        raise RuntimeError(f"names differ: {missing}")
    for part in (model.shared, model.encoder.embed_tokens, model.decoder.embed_tokens):
        part.weight = torch.nn.Parameter(tensors["token_embd.weight"])
    return model


def record(path: Path, source: Any, tokens: Any) -> Any:
    """Return the logits of the last 16 tokens."""
    tensors = _tensors(path)
    model = _model(tensors, *KINDS[path.stem])
    with torch.no_grad():
        states = model(
            input_ids=torch.tensor(source)[None].long(),
            decoder_input_ids=torch.tensor(tokens)[None].long(),
            output_hidden_states=True,
        ).decoder_hidden_states[-1]
        # without the scale that transformers gives logits of a shared table
        head = tensors.get("output.weight", tensors["token_embd.weight"])
        return (states[0, -16:] @ head.T).numpy()


def main(folder: str, target: str) -> None:
    """Record all models."""
    arrays = dict(np.load(target))
    for name in KINDS:
        source, tokens = arrays[f"{name}/source"], arrays[f"{name}/tokens"]
        logits = record(Path(folder) / f"{name}.gguf", source, tokens)
        arrays[f"{name}/transformers"] = logits
    np.savez_compressed(target, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
