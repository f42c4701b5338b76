"""LoRA adapters: products of two thin matrices, added to those of a model's own matrices."""

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from jitllm.backends.ir import Node
from jitllm.kernels import formats
from jitllm.llm.errors import GGUFError, UnsupportedFormat
from jitllm.llm.loaders.gguf import GGUFFile

if TYPE_CHECKING:
    from jitllm.llm.hooks import Hook
    from jitllm.llm.model import Model

_log = logging.getLogger("jitllm.lora")

Floats = npt.NDArray[np.float32]

_A, _B = ".lora_a", ".lora_b"
_INVOCATION = "adapter.alora.invocation_tokens"


class Factors(NamedTuple):
    """The two matrices of an adapter: a is float32 (rank, K), b is float32 (N, rank)."""

    a: Floats
    b: Floats


@dataclass(frozen=True, slots=True, eq=False)
class LoraAdapter:
    """A LoRA adapter: (x a^T) b^T times alpha / rank is added to x W^T of each matrix W.

    The model's weights stay as they are, quantized too; the products run in float32 in NumPy.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.

    Attributes
    ----------
    architecture : str
        `general.architecture` of the models it is for.
    alpha : float
        0 for products that are added as they are.
    factors : mapping of str to Factors
        By the name of the matrix's tensor.
    """

    architecture: str
    alpha: float
    factors: Mapping[str, Factors]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read an adapter from a GGUF file, as llama.cpp's `convert_lora_to_gguf.py` writes it.

        Weights of norms in it are left out, as llama.cpp does; the log "jitllm.lora" tells.

        Raises
        ------
        ModelNotFoundError
            If there is no such file.
        GGUFError
            If the file is damaged, or holds no LoRA adapter, or one that waits for certain tokens.
        UnsupportedFormat
            If a matrix has a tensor type that jitllm does not know.
        """
        with GGUFFile(path) as file:
            kinds = (file.get("general.type", str, ""), file.get("adapter.type", str, ""))
            if kinds != ("adapter", "lora"):
                raise GGUFError(
                    f"{path}: expected general.type 'adapter' and adapter.type 'lora', got {kinds}"
                )
            if _INVOCATION in file.metadata:
                raise GGUFError(
                    f"{path}: expected an adapter for all tokens, got one that begins with certain "
                    f"tokens ({_INVOCATION}), which jitllm does not apply"
                )
            alpha = file.get("adapter.lora.alpha", float, 0.0)
            if not math.isfinite(alpha):
                raise GGUFError(f"{path}: expected a finite adapter.lora.alpha, got {alpha}")
            architecture = file.get("general.architecture", str)
            return cls(architecture, alpha, _factors(file))

    def __repr__(self) -> str:
        ranks = sorted({factors.a.shape[0] for factors in self.factors.values()})
        of = f"{len(self.factors)} matrices, rank {', '.join(map(str, ranks))}"
        return f"<LoraAdapter for {self.architecture}: {of}, alpha {self.alpha:g}>"

    @contextmanager
    def applied(self, model: "Model", *, scale: float = 1.0) -> Iterator["Model"]:
        """Use the adapter in everything the model runs inside the `with` block.

        Sequences keep in their caches what was computed so. Blocks may be nested.

        Parameters
        ----------
        model : Model
        scale : float
            How much of it: 1 as it was trained, 0 nothing.

        Raises
        ------
        ValueError
            If the adapter is for another model, changes an embedding or experts, or the scale is
            not finite.
        """
        with model.hooks(self._hooks(model, scale)):
            yield model

    def _hooks(self, model: "Model", scale: float) -> dict[str, Any]:
        if not math.isfinite(scale) or self.architecture != model.config.architecture:
            raise ValueError(
                f"expected a finite scale and a model of architecture {self.architecture!r}, got "
                f"{scale} and {model.config.architecture!r}"
            )
        nodes: dict[str, list[Node]] = {}
        for node in model.engine.graph.nodes:
            if node.op == "matmul":
                nodes.setdefault(node.weights[0], []).append(node)
        products = [
            _Product(node, factors, scale * (self.alpha / len(factors.a) if self.alpha else 1.0))
            for name, factors in self.factors.items()
            for node in _checked(name, factors, nodes)
        ]
        # added to before it is kept: a product may read another product
        calls: dict[str, list[_Call]] = {}
        for product in products:
            calls.setdefault(product.node.outputs[0].name, []).append(product.add)
        for product in products:
            calls.setdefault(product.node.inputs[0].name, []).append(product.keep)
        return {name: _in_turn(functions) for name, functions in calls.items()}


_Call = Callable[[Floats], None]


class _Product:
    """What is added to one matrix product."""

    def __init__(self, node: Node, factors: Factors, scale: float) -> None:
        self.node, self._kept = node, np.empty((0, 0), np.float32)
        self._a, self._b = factors.a.T, factors.b.T * np.float32(scale)

    def keep(self, activation: Floats) -> None:
        self._kept = activation @ self._a  # at once: the array is only lent

    def add(self, activation: Floats) -> None:
        activation += self._kept @ self._b


def _in_turn(functions: list[_Call]) -> Any:
    def call(activation: Floats, hook: "Hook") -> None:
        for function in functions:
            function(activation)

    return call


def _checked(name: str, factors: Factors, nodes: Mapping[str, list[Node]]) -> list[Node]:
    found = nodes.get(name, [])
    if not found or name == "token_embd.weight":
        raise ValueError(
            f"expected adapters of matrices that the model multiplies by, got one of {name!r}; "
            "those of embeddings and of experts are not applied"
        )
    for node in found:
        expected = (node.outputs[0].width, node.inputs[0].width)
        got = (len(factors.b), factors.a.shape[1])
        if got != expected:
            raise ValueError(f"{name!r}: expected an adapter of shape {expected}, got {got}; "
                             "it is for another model")  # fmt: skip
    return found


def _factors(file: GGUFFile) -> dict[str, Factors]:
    path = file.paths[0]
    names: dict[str, None] = {}
    for name in file.tensors:
        if name.endswith((_A, _B)):
            names[name[: -len(_A)]] = None
        elif name.endswith("_norm.weight"):
            _log.warning("%s: the norm %r is left out", path, name)
        else:
            raise GGUFError(f"{path}: expected tensors *{_A} and *{_B}, got {name!r}")
    if not names:
        raise GGUFError(f"{path}: expected tensors *{_A} and *{_B}, got none")
    pairs = {name: Factors(_read(file, name + _A), _read(file, name + _B)) for name in names}
    for name, (a, b) in pairs.items():
        if a.ndim != 2 or b.ndim != 2 or len(a) != b.shape[1]:
            raise GGUFError(
                f"{path}: {name!r}: expected matrices (rank, K) and (N, rank), got {a.shape} and "
                f"{b.shape}"
            )
    return pairs


def _read(file: GGUFFile, name: str) -> Floats:
    data = file.data(name)  # tells of a tensor that is missing
    info = file.tensors[name]
    try:
        return np.array(formats.dequantize(info.type_name, data, info.shape), np.float32)
    except ValueError as error:
        raise UnsupportedFormat(f"{file.paths[0]}: {name!r}: {error}") from error
