"""Record the types that llama-quantize chose for real models: `quantize_types.json.xz`.

Reads the `*.schema` files of llama.cpp's tests/snapshots and writes them by layers:

    python -m recorders.quantize_types path/to/tests/snapshots
"""

import json
import lzma
import re
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[1] / "data/quantize_types.json.xz"
ARCHITECTURES = {
    "deepseek-v3.1": "deepseek2", "gemma-3-4b-it": "gemma3", "glm-4.6v": "glm4moe",
    "gpt-oss-120b": "gpt-oss", "meta-llama-3.1-70b-instruct": "llama",
    "nvidia-nemotron-3-nano-30b-a3b": "nemotron_h_moe", "qwen3-0.6b": "qwen3",
    "qwen3-14b": "qwen3", "qwen3-coder-next": "qwen3next", "qwen3.5-397b-a17b": "qwen35moe",
    "qwen3.6-27b": "qwen35", "step-3.5-flash": "step35",
}  # fmt: skip

Types = dict[str, dict[str, str]]


def sections(text: str) -> tuple[dict[str, int], dict[str, str], Types]:
    """Return sizes, the types of most tensors, and the types of others, by mixtures."""
    sizes = {key: int(value) for key, value in re.findall(r"(n_\w+)=(\d+)", text)}
    usual, others = {}, {}
    for head, body in re.findall(r"^\[([^\n]+)\n((?:[^\[\n][^\n]*\n)*)", text, re.M):
        name, type_name = head.split("] ")
        usual[name] = type_name.upper()
        others[name] = {t: kind.upper() for t, kind in re.findall(r"^(\S+) (\S+)$", body, re.M)}
    return sizes, usual, others


def shape(tensor: str, others: Types) -> str:
    """Tell dimensions and a divisor of the columns by the types that did not fit."""
    columns = 256
    if others["Q6_K"].get(tensor) == "Q8_0":
        columns = 32
    if others["Q5_0"].get(tensor) == "F16":
        columns = 1
    dims = 2 if others["MXFP4_MOE"].get(tensor) == "Q8_0" else 3
    return f"{dims} {columns}"


def by_layers(tensors: dict[str, str]) -> dict[str, dict[str, str]]:
    """Return what tensors have as {suffix: {value: layers, such as "0-3 7"}}."""
    found: dict[str, dict[str, list[int]]] = {}
    for name, value in tensors.items():
        layer = re.match(r"blk\.(\d+)\.(.*)", name)
        suffix = layer[2] if layer else name
        layers = found.setdefault(suffix, {}).setdefault(value, [])
        layers += [int(layer[1])] if layer else []
    return {s: {v: runs(sorted(n)) for v, n in parts.items()} for s, parts in found.items()}


def runs(numbers: list[int]) -> str:
    """Write rising numbers as "0-3 7"."""
    parts: list[list[int]] = []
    for n in numbers:
        if parts and parts[-1][-1] == n - 1:
            parts[-1][1:] = [n]
        else:
            parts.append([n])
    return " ".join("-".join(map(str, part)) for part in parts)


def record(path: Path) -> dict[str, Any]:
    """Return what one file says."""
    sizes, usual, others = sections(path.read_text() + "\n")
    tensors = {name: shape(name, others) for each in others.values() for name in each}
    key_heads = sizes["n_head_kv"]
    quantized = [name for name, kind in usual.items() if kind not in ("F32", "F16", "BF16")]
    return {
        "architecture": ARCHITECTURES[path.stem],
        "n_layers": sizes["n_layer"],
        "n_expert": sizes.get("n_expert", 0),
        "n_gqa": sizes["n_head"] // key_heads if key_heads else 0,
        "tensors": by_layers(tensors),
        "types": {name: by_layers(others[name]) for name in quantized},
    }


if __name__ == "__main__":
    data = {path.stem: record(path) for path in sorted(Path(sys.argv[1]).glob("*.schema"))}
    TARGET.write_bytes(lzma.compress(json.dumps(data).encode(), preset=9))
