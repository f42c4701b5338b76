"""What will be done to every tensor of a model, decided before anything is written."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from jitllm.kernels import formats
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.loaders.gguf import GGUFFile, TensorInfo
from jitllm.llm.loaders.gguf_writer import NewTensor
from jitllm.llm.quantize.ftypes import COPY, FileType
from jitllm.llm.quantize.places import in_order, is_quantizable, layer_of, place
from jitllm.llm.quantize.rules import ModelFacts, Rules, fitting_type, needs_imatrix

log = logging.getLogger("jitllm.quantize")

_LAYERS_OF_70B = {"llama": 80, "qwen2": 80, "deci": 80, "olmo": 80, "jais2": 68}


@dataclass(frozen=True)
class Wishes:
    """What the user wants of the types.

    Attributes
    ----------
    ftype : FileType
    overrides : mapping of str to str
        Regular expressions and types; the first that matches counts.
    output_type, token_embedding_type : str or None
        Of these two matrices.
    leave_output : bool
        Keep `output.weight` as it is.
    pure : bool
        Give all matrices the mixture's type.
    prune_layers : sequence of int
        Layers to leave out; those behind them move up.
    """

    ftype: FileType
    overrides: Mapping[str, str] = field(default_factory=dict)
    output_type: str | None = None
    token_embedding_type: str | None = None
    leave_output: bool = False
    pure: bool = False
    prune_layers: Sequence[int] = ()


class TensorPlan(NamedTuple):
    """A tensor before and after.

    Attributes
    ----------
    name : str
    shape : tuple of int
    source_type, type_name : str
    source_nbytes, nbytes : int
    source_name : str
        Another one where layers before it are left out.
    """

    name: str
    shape: tuple[int, ...]
    source_type: str
    type_name: str
    source_nbytes: int
    nbytes: int
    source_name: str


def make_plan(file: GGUFFile, wishes: Wishes, has_imatrix: bool) -> tuple[TensorPlan, ...]:
    """Decide the type of every tensor, in the order of the file.

    Raises
    ------
    ModelFormatError
        If the metadata lacks what the rules need.
    ValueError
        If an override fits no tensor, or a type does not fit, or there is no such layer.
    """
    names = _new_names(file, wishes.prune_layers)
    infos = {new: file.tensors[old] for old, new in names.items()}
    chooser = _Chooser(wishes, _facts(file, list(infos), has_imatrix))
    chosen = {name: chooser.choose(name, infos[name]) for name in in_order(list(infos))}
    chooser.check_all_used()
    return tuple(_step(name, info, chosen[name]) for name, info in infos.items())


def _new_names(file: GGUFFile, pruned: Sequence[int]) -> dict[str, str]:
    """Old and new names of the tensors of layers that stay, in the order of the file."""
    layers = sorted({layer_of(name) for name in file.tensors} - {-1})
    missing = [layer for layer in pruned if layer not in layers]
    if missing:
        raise ValueError(
            f"expected layers to leave out from 0 to {len(layers) - 1}, got {missing[0]}"
        )
    number = {layer: i for i, layer in enumerate(x for x in layers if x not in pruned)}
    names = {}
    for name in file.tensors:
        layer = layer_of(name)
        if layer < 0 or not pruned:
            names[name] = name
        elif layer in number:
            names[name] = name.replace(f"blk.{layer}.", f"blk.{number[layer]}.", 1)
    return names


class _Chooser:
    """The user's wishes, and the rules where there are none."""

    def __init__(self, wishes: Wishes, facts: ModelFacts) -> None:
        self._wishes, self._facts = wishes, facts
        self._rules = Rules(wishes.ftype, facts)
        self._used: set[str] = set()

    def choose(self, name: str, info: TensorInfo) -> str:
        """Return the type for a tensor."""
        wishes, kind = self._wishes, place(name)
        kept = not is_quantizable(name, info.shape, self._facts.architecture)
        kept = kept or info.type_name not in formats.weights() or wishes.ftype is COPY
        if kept or (wishes.leave_output and kind == "output"):
            return info.type_name
        pattern = next((p for p in wishes.overrides if re.search(p, name)), None)
        per_layer = name != "token_embd.weight" and pattern is not None
        if wishes.token_embedding_type and kind == "token_embd" and not per_layer:
            return _explicit(name, info, wishes.token_embedding_type)
        if wishes.output_type and kind == "output":
            return _explicit(name, info, wishes.output_type)
        if pattern is not None:
            self._used.add(pattern)
            return _explicit(name, info, wishes.overrides[pattern])
        if wishes.output_type and not wishes.pure and self._facts.tied and kind == "token_embd":
            return _explicit(name, info, wishes.output_type)
        return self._by_rule(name, info)

    def _by_rule(self, name: str, info: TensorInfo) -> str:
        wanted = self._wishes.ftype.type_name
        if not formats.get(wanted).planes:
            return wanted
        if not self._wishes.pure:
            wanted = self._rules.choose(name, info.shape)
        fitting = fitting_type(wanted, info.shape[-1])
        if fitting != wanted:
            log.warning(
                "tensor %r: rows of %d are no whole blocks of %s, it becomes %s",
                name, info.shape[-1], wanted, fitting,
            )  # fmt: skip
        return fitting

    def check_all_used(self) -> None:
        """Raise `ValueError` if an override decided nothing."""
        unused = [pattern for pattern in self._wishes.overrides if pattern not in self._used]
        if unused:
            raise ValueError(
                f"expected overrides that each decide a tensor, got {unused[0]!r}, which matches "
                "no matrix, or none that was left; `jitllm inspect --tensors` lists names"
            )


def check_plan(
    plan: tuple[TensorPlan, ...], ftype: FileType, measured: frozenset[str], requantize: bool
) -> None:
    """Raise `ValueError` where the result would be of no use.

    Parameters
    ----------
    plan : tuple of TensorPlan
    ftype : FileType
    measured : frozenset of str
        Tensors whose columns' importance is known, by their names in the source.
    requantize : bool
        Quantized tensors may be quantized once more.
    """
    for step in plan:
        if step.source_type == step.type_name:
            continue
        if formats.get(step.source_type).block_size > 1 and not requantize:
            raise ValueError(
                f"tensor {step.name!r}: expected F32, F16 or BF16, got {step.source_type}; "
                "quantizing twice loses much. Start from the original model, or allow it with "
                "requantize=True (--requantize)"
            )
    lacking = unmeasured(plan, ftype, measured)
    if lacking:
        raise ValueError(
            f"tensor {lacking[0].name!r}: {ftype.name} needs an importance matrix to be of use, "
            f"to make it {lacking[0].type_name}; give one with imatrix (--imatrix), which "
            "`jitllm imatrix` measures, or choose another ftype"
        )


def unmeasured(
    plan: tuple[TensorPlan, ...], ftype: FileType, measured: frozenset[str]
) -> list[TensorPlan]:
    """Return what needs an importance matrix and has none; parameters as those of `check_plan`."""
    return [
        step
        for step in plan
        if step.source_type != step.type_name
        and needs_imatrix(step.name, step.type_name, ftype.name)
        and step.source_name not in measured
    ]


def _explicit(name: str, info: TensorInfo, type_name: str) -> str:
    upper = type_name.upper()
    if upper not in formats.writable():
        raise ValueError(
            f"tensor {name!r}: expected a type to write, one of "
            f"{', '.join(formats.writable())}, got {type_name!r}"
        )
    if info.shape[-1] % formats.get(upper).block_size:
        raise ValueError(
            f"tensor {name!r}: expected a type whose blocks fit into rows of "
            f"{info.shape[-1]}, got {upper} with blocks of {formats.get(upper).block_size}"
        )
    return upper


def _step(name: str, info: TensorInfo, type_name: str) -> TensorPlan:
    size = info.nbytes
    if type_name != info.type_name:
        size = NewTensor(name, info.shape, type_name).nbytes
    return TensorPlan(
        name, info.shape, info.type_name, type_name, info.nbytes, size, source_name=info.name
    )


def _facts(file: GGUFFile, names: list[str], has_imatrix: bool) -> ModelFacts:
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
        n_values=sum(place(name) == "value" for name in names),
        tied="output.weight" not in names,
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
