"""Copies of test models with their matrices in a quantized format."""

import os
import zlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from blocks import quantize, random_blocks
from tiny import write_gguf

from jitllm.kernels import formats
from jitllm.llm.loaders.gguf import GGUFFile, StringArray

# What the gguf package can make; it knows others without being able to.
_MADE = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4"}


def quantized_copy(
    source: str | os.PathLike[str], target: str | os.PathLike[str], type_name: str
) -> Path:
    """Write a copy of a model whose matrices have format `type_name` where their width allows.

    Formats that the gguf package does not write get random blocks.
    """
    block = formats.get(type_name).block_size
    with GGUFFile(source) as file:
        metadata = {key: _plain(value) for key, value in file.metadata.items()}
        tensors: dict[str, Any] = {}
        for name, info in file.tensors.items():
            kind = gguf.GGMLQuantizationType[info.type_name]
            values = gguf.quants.dequantize(file.data(name), kind).reshape(info.shape)
            fits = len(info.shape) > 1 and info.shape[-1] % block == 0
            if fits:
                exact = type_name == "F64"
                values = values.astype(np.float64) if exact else _blocks(name, values, type_name)
            tensors[name] = values
    return write_gguf(target, metadata, tensors)


def _blocks(name: str, values: Any, type_name: str) -> tuple[str, Any, tuple[int, ...]]:
    if type_name not in _MADE:
        n = values.size // formats.get(type_name).block_size
        data = random_blocks(type_name, n, np.random.default_rng(zlib.crc32(name.encode())))
    else:
        data = quantize(type_name, values)
    return type_name, data, values.shape


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, StringArray) else value
