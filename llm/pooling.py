"""From the hidden states of a text to one vector: pooling, normalization, a classifier's head."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError

Floats = npt.NDArray[np.float32]

KINDS = ("none", "mean", "cls", "last", "rank")
"""By the number that `<architecture>.pooling_type` holds."""

HEAD_TENSORS = ("cls.weight", "cls.bias", "cls.norm.weight", "cls.output.weight", "cls.output.bias")
_UNSET = 0xFFFFFFFF  # -1, as files hold it that say nothing
_GELU_HEADS = ("modern-bert",)
_SOFTMAX_HEADS = ("qwen3", "qwen3vl")


def pooling_of(config: ModelConfig, key: str = "pooling_type") -> str:
    """Return how a file wants its states pooled: one of KINDS, "" where it does not say.

    Raises
    ------
    ModelFormatError
        If the number is not known.
    """
    number = config.metadata.get(key, int, -1)
    if number == _UNSET:
        number = -1
    if not -1 <= number < len(KINDS):
        raise ModelFormatError(
            f"key '{config.architecture}.{key}': expected 0 to {len(KINDS) - 1}, got {number}"
        )
    return "" if number < 0 else KINDS[number]


def rows_for(kind: str, n_tokens: int) -> npt.NDArray[np.intp]:
    """Return the rows of a text that a pooling reads."""
    if kind == "cls":
        return np.zeros(1, np.intp)
    return np.array([n_tokens - 1]) if kind == "last" else np.arange(n_tokens)


def pool(states: Floats, kind: str) -> Floats:
    """Return what is made of the rows `rows_for` chose: [n], or [rows, n] for "none"."""
    if kind == "none":
        return states
    mean: Floats = states.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def normalize(vectors: Floats) -> Floats:
    """Return vectors [..., n] of length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


@dataclass(frozen=True)
class Head:
    """The classifier behind the pooled state of a reranker.

    A matrix with bias, tanh or GELU, a layer norm, a matrix with bias, softmax; each only where the
    model has it. Source: Nogueira and Cho, "Passage Re-ranking with BERT", 2019.

    Parameters
    ----------
    config : ModelConfig
    tensors : mapping of str to float32 array
        Those of HEAD_TENSORS that the file has.

    Attributes
    ----------
    pooling : str
        How the states are pooled for it.
    """

    config: ModelConfig
    tensors: Mapping[str, Floats] = field(repr=False)
    pooling: str = "cls"

    @classmethod
    def of(cls, config: ModelConfig, tensors: Mapping[str, Floats], *, is_encoder: bool) -> "Head":
        """Return the head of a file's tensors.

        Raises
        ------
        ModelFormatError
            If a tensor's shape does not fit.
        """
        default = "mean" if config.architecture == "modern-bert" else "cls"
        wanted = pooling_of(config, "classifier.pooling_type") or default
        if wanted != "mean":
            wanted = "cls" if is_encoder else "last"
        head = cls(config, tensors, wanted)
        try:
            head(np.zeros(config.hidden_size, np.float32))
        except ValueError as error:
            shapes = {name: tensor.shape for name, tensor in tensors.items()}
            raise ModelFormatError(
                f"tensors of the classifier: expected matrices for states of {config.hidden_size} "
                f"columns, got {shapes}"
            ) from error
        return head

    def __call__(self, state: Floats) -> Floats:
        """Return the scores of all labels, float32 [labels]."""
        has, y = self.tensors, state
        if "cls.weight" in has:
            y = has["cls.weight"] @ y + has.get("cls.bias", np.float32(0))
            y = _gelu(y) if self.config.architecture in _GELU_HEADS else np.tanh(y)
        if "cls.weight" in has and "cls.norm.weight" in has:
            y = self._norm(y)
        if "cls.output.weight" in has:
            y = has["cls.output.weight"] @ y + has.get("cls.output.bias", np.float32(0))
        if self.config.architecture in _SOFTMAX_HEADS:
            y = np.exp(y - y.max())
            y = y / y.sum()
        return y.astype(np.float32)

    def _norm(self, y: Floats) -> Any:
        eps = self.config.metadata.get("attention.layer_norm_epsilon", float)
        return (y - y.mean()) / np.sqrt(y.var() + eps) * self.tensors["cls.norm.weight"]


def _gelu(x: Floats) -> Any:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
