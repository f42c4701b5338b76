"""What will be done to every tensor of a model, decided before anything is written."""

import logging
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jitllm.kernels import formats
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.loaders.gguf import GGUFFile, TensorInfo
from jitllm.llm.loaders.gguf_writer import NewTensor
from jitllm.llm.quantize.ftypes import FileType
from jitllm.llm.quantize.rules import (
    ModelFacts,
    Rules,
    fitting_type,
    in_order,
    is_quantizable,
    needs_imatrix,
    place,
)

log = logging.getLogger("jitllm.quantize")

_LAYERS_OF_70B = {"llama": 80, "qwen2": 80, "deci": 80, "olmo": 80, "jais2": 68}


class TensorPlan(NamedTuple):
    """A tensor before and after.

    Attributes
    ----------
    name : str
    shape : tuple of int
    source_type, type_name : str
    source_nbytes, nbytes : int
    """

    name: str
    shape: tuple[int, ...]
    source_type: str
    type_name: str
    source_nbytes: int
    nbytes: int


def make_plan(
    file: GGUFFile, ftype: FileType, overrides: Mapping[str, str], has_imatrix: bool
) -> tuple[TensorPlan, ...]:
    """Decide the type of every tensor, in the order of the file.

    Raises
    ------
    ModelFormatError
        If the metadata lacks what the rules need.
    ValueError
        If an override fits no tensor, or its type does not fit.
    """
    facts = _facts(file, has_imatrix)
    rules, chosen, used = Rules(ftype, facts), {}, set()
    for name in in_order(list(file.tensors)):
        info = file.tensors[name]
        known = info.type_name in formats.names()
        if not known or not is_quantizable(name, info.shape, facts.architecture):
            chosen[name] = info.type_name
            continue
        pattern = next((p for p in overrides if re.search(p, name)), None)
        if pattern is not None:
            used.add(pattern)
            chosen[name] = _override(info, overrides[pattern])
        else:
            chosen[name] = _by_rule(info, ftype, rules)
    unused = [pattern for pattern in overrides if pattern not in used]
    if unused:
        raise ValueError(
            f"expected overrides that each decide a tensor, got {unused[0]!r}, which matches no "
            "matrix, or none that an earlier one left; `jitllm inspect --tensors` lists names"
        )
    return tuple(_step(info, chosen[name]) for name, info in file.tensors.items())


def check_plan(
    plan: tuple[TensorPlan, ...], ftype: FileType, measured: frozenset[str], requantize: bool
) -> None:
    """Raise `ValueError` where the result would be of no use.

    Parameters
    ----------
    plan : tuple of TensorPlan
    ftype : FileType
    measured : frozenset of str
        Tensors whose columns' importance is known.
    requantize : bool
        Quantized tensors may be quantized once more.
    """
    for step in plan:
        if step.source_type == step.type_name:
            continue
        if formats.get(step.source_type).planes and not requantize:
            raise ValueError(
                f"tensor {step.name!r}: expected F32, F16 or BF16, got {step.source_type}; "
                "quantizing twice loses much. Start from the original model, or allow it with "
                "requantize=True (--requantize)"
            )
        if needs_imatrix(step.name, step.type_name, ftype.name) and step.name not in measured:
            raise ValueError(
                f"tensor {step.name!r}: {ftype.name} needs an importance matrix to be of use; "
                "give one with imatrix, or choose another ftype"
            )


def _override(info: TensorInfo, type_name: str) -> str:
    upper = type_name.upper()
    if upper not in formats.writable():
        raise ValueError(
            f"tensor {info.name!r}: expected a type to write, one of "
            f"{', '.join(formats.writable())}, got {type_name!r}"
        )
    if info.shape[-1] % formats.get(upper).block_size:
        raise ValueError(
            f"tensor {info.name!r}: expected a type whose blocks fit into rows of "
            f"{info.shape[-1]}, got {upper} with blocks of {formats.get(upper).block_size}"
        )
    return upper


def _by_rule(info: TensorInfo, ftype: FileType, rules: Rules) -> str:
    if not formats.get(ftype.type_name).planes:
        return ftype.type_name
    wanted = rules.choose(info.name, info.shape)
    fitting = fitting_type(wanted, info.shape[-1])
    if fitting != wanted:
        log.warning(
            "tensor %r: rows of %d are no whole blocks of %s, it becomes %s",
            info.name, info.shape[-1], wanted, fitting,
        )  # fmt: skip
    return fitting


def _step(info: TensorInfo, type_name: str) -> TensorPlan:
    size = info.nbytes
    if type_name != info.type_name:
        size = NewTensor(info.name, info.shape, type_name).nbytes
    return TensorPlan(info.name, info.shape, info.type_name, type_name, info.nbytes, size)


def _facts(file: GGUFFile, has_imatrix: bool) -> ModelFacts:
    architecture = file.get("general.architecture", str)
    n_layers = file.get(f"{architecture}.block_count", int)
    heads = _first(file, f"{architecture}.attention.head_count", 0)
    key_heads = _first(file, f"{architecture}.attention.head_count_kv", heads)
    # with as many key heads as query heads it is the 65B model of the first LLaMA
    large = _LAYERS_OF_70B.get(architecture) == n_layers
    return ModelFacts(
        architecture,
        n_layers,
        n_expert=file.get(f"{architecture}.expert_count", int, 0),
        n_gqa=heads // key_heads if key_heads else 0,
        n_values=sum(place(name) == "value" for name in file.tensors),
        tied="output.weight" not in file.tensors,
        is_70b=large and not (architecture == "llama" and heads == key_heads),
        has_imatrix=has_imatrix,
    )


def _first(file: GGUFFile, key: str, default: int) -> int:
    """A number, or the first of one for each layer."""
    value = file.metadata.get(key, default)
    if isinstance(value, np.ndarray) and value.size:
        value = value.flat[0].item()
    if not isinstance(value, int) or value < 0:
        raise ModelFormatError(f"{file.paths[0]}: key {key!r}: expected a count, got {value!r:.80}")
    return value
