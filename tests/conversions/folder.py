"""A Hugging Face folder of a tiny model, written without PyTorch or transformers."""

import json
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conversions.tokenizers import save_json

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Folder:
    """What stands in the folder of a tiny model.

    Attributes
    ----------
    name : str
        Of the folder: the metadata of a model without a card are read from it.
    config : dict
        config.json.
    shapes : dict of str to tuple
        The tensors, in the order of the file, shapes as NumPy has them.
    tokenizer : callable
        Writes the tokenizer's files into a folder.
    pre : str
        What the reference is told that the pre-tokenizer is: it would not know a tiny vocabulary.
    dtype : str
        Of the tensors in the file: "F32", "F16" or "BF16".
    full : str
        Regular expression of the tensors that are "F32" all the same.
    raw : bool
        The reference is to take config.json as it is: its transformers has its own idea of a kind
        of model that came with its own code.
    shards : int
        Files that the tensors are spread over.
    files : mapping of str to str or dict
        Further files: text, or what is written as JSON.
    """

    name: str
    config: dict[str, Any]
    shapes: Shapes
    tokenizer: Callable[[Path], None]
    pre: str = "default"
    dtype: str = "BF16"
    full: str = "$^"
    raw: bool = False
    shards: int = 1
    files: Mapping[str, str | dict[str, Any]] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        """Make the folder in `path`, and return where it is."""
        path = path / self.name
        path.mkdir(parents=True)
        save_json(path / "config.json", self.config)
        for name, content in self.files.items():
            (path / name).parent.mkdir(exist_ok=True)
            if isinstance(content, str):
                (path / name).write_text(content, encoding="utf-8")
            else:
                save_json(path / name, content)
        self.tokenizer(path)
        self._write_tensors(path)
        return path

    def _write_tensors(self, path: Path) -> None:
        names = list(self.shapes)
        parts = [names[i :: self.shards] for i in range(self.shards)]
        where: dict[str, str] = {}
        for i, part in enumerate(parts):
            file = f"model-{i + 1:05}-of-{self.shards:05}.safetensors"
            file = "model.safetensors" if self.shards == 1 else file
            where |= dict.fromkeys(part, file)
            tensors = {n: weights(n, self.shapes[n]) for n in part}
            kinds = {n: "F32" if re.search(self.full, n) else self.dtype for n in part}
            write_safetensors(path / file, tensors, kinds)
        if self.shards > 1:
            size = sum(4 * int(np.prod(shape)) for shape in self.shapes.values())
            index = {"metadata": {"total_size": size}, "weight_map": where}
            save_json(path / "model.safetensors.index.json", index)


def write_safetensors(
    path: Path, tensors: Mapping[str, NDArray[np.float32]], kinds: Mapping[str, str]
) -> None:
    """Write a safetensors file; `kinds` are the names of the types there."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blobs, end = [], 0
    for name, tensor in tensors.items():
        blobs.append(_stored(tensor, kinds[name]))
        start, end = end, end + len(blobs[-1])
        header[name] = {
            "dtype": kinds[name],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def _stored(tensor: NDArray[np.float32], kind: str) -> bytes:
    if kind == "BF16":
        bits = tensor.view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
    return tensor.astype({"F32": "<f4", "F16": "<f2", "I64": "<i8"}[kind]).tobytes()


def weights(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Random weights of a useful size, the same for the same name and shape."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    normal = rng.standard_normal(shape, dtype=np.float32)
    if name.endswith("A_log") and len(shape) == 2:  # as Mamba begins
        return np.tile(np.log(np.arange(1, shape[1] + 1, dtype=np.float32)), (shape[0], 1))
    if name.endswith(("A_log", "dt_bias")):
        return np.float32(0.5) * normal
    if name.endswith("bias"):
        return np.float32(0.2) * normal
    if len(shape) == 1:
        return np.float32(1) + np.float32(0.2) * normal
    if "embed" in name:
        return normal
    gain = 2 if re.search(r"\.[qk]_proj|qkv|query|key", name) else 1
    return normal * np.float32(gain / np.sqrt(shape[-1]))


def pooling(kind: str) -> dict[str, Any]:
    """The files of sentence-transformers that say how tokens become one vector."""
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_Pooling",
            "type": "sentence_transformers.models.Pooling",
        },
    ]
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken")
    pooling = {f"pooling_mode_{name}": name == kind for name in names}
    return {"modules.json": modules, "1_Pooling/config.json": pooling}
