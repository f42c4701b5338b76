"""LoRA adapters: products of two thin matrices, added to those of a model's own matrices."""

import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from jitllm.kernels import formats
from jitllm.llm.errors import GGUFError
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.loaders.gguf_writer import NewTensor, scalar, write_gguf
from jitllm.llm.lora_graph import EMBEDDINGS, Factors

if TYPE_CHECKING:
    from jitllm.llm.lora_attached import Attached
    from jitllm.llm.model import Model

_log = logging.getLogger("jitllm.lora")

Floats = npt.NDArray[np.float32]

_A, _B = ".lora_a", ".lora_b"
_TEXTS = ("task_name", "prompt_prefix")
_INVOCATION = "adapter.alora.invocation_tokens"


@dataclass(frozen=True, slots=True, eq=False)
class LoraAdapter:
    """A LoRA adapter: (x a^T) b^T times alpha / rank is added to x W^T of each matrix W.

    The model's weights stay as they are, quantized too; the products run in float32 beside theirs.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.

    Attributes
    ----------
    architecture : str
        `general.architecture` of the models it is for.
    alpha : float
        0 for products that are added as they are.
    factors : mapping of str to Factors
        By the name of the matrix's tensor.
    task_name : str
        What it was trained for, such as "retrieval.query" of Jina Embeddings 3; "" if the file does
        not say.
    prompt_prefix : str
        What texts of that task begin with; nobody but the caller puts it there.
    """

    architecture: str
    alpha: float
    factors: Mapping[str, Factors]
    task_name: str = ""
    prompt_prefix: str = ""

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
            texts = (file.get(f"adapter.lora.{key}", str, "") for key in _TEXTS)
            return cls(file.get("general.architecture", str), alpha, _factors(file), *texts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a GGUF file that `load` and llama.cpp's `--lora` read, in float32.

        Parameters
        ----------
        path : path
            Replaced, when all is written, if there is such a file.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        values = {
            "general.architecture": scalar("string", self.architecture),
            "general.type": scalar("string", "adapter"),
            "adapter.type": scalar("string", "lora"),
            "adapter.lora.alpha": scalar("float32", self.alpha),
        }
        texts = zip(_TEXTS, (self.task_name, self.prompt_prefix), strict=True)
        values |= {f"adapter.lora.{key}": scalar("string", text) for key, text in texts if text}
        arrays = {
            f"{name}{suffix}": array
            for name, factors in self.factors.items()
            for suffix, array in zip((_A, _B), factors, strict=True)
        }
        tensors = [NewTensor(name, array.shape, "F32") for name, array in arrays.items()]
        write_gguf(
            path, values, tensors, (iter([a.astype("<f4").tobytes()]) for a in arrays.values())
        )

    def __repr__(self) -> str:
        ranks = sorted({factors.rank for factors in self.factors.values()})
        of = f"{len(self.factors)} matrices, rank {', '.join(map(str, ranks))}"
        task = f" {self.task_name!r}" if self.task_name else ""
        return f"<LoraAdapter{task} for {self.architecture}: {of}, alpha {self.alpha:g}>"

    def attach(self, model: "Model", *, scale: float = 1.0) -> "Attached":
        """Use the adapter in everything the model runs from now on, until it is detached.

        Its products become part of the model's graph. Attaching, replacing and detaching plan the
        graph anew, which takes a part of a second, between two tokens of a generation if one is
        under way; the model's own weights are not touched. A change of scale costs nothing.

        What sequences have in their caches stays as it was computed: a change holds for tokens
        that are computed after it. Where all of a text is to be read anew, use a new sequence.

        Several adapters add up. Of a model whose output matrix is that of the embeddings, an
        adapter of the embeddings changes only the embeddings.

        Parameters
        ----------
        model : Model
        scale : float
            How much of it: 1 as it was trained, 0 nothing.

        Raises
        ------
        ValueError
            If the adapter is for another model, or the scale is not finite.
        HookError
            If a hook calls this.
        BackendError
            If the device cannot run it.
        ModelNotFoundError
            If the model's file is gone, and shapes of embeddings or experts are to be looked up.
        """
        from jitllm.llm.lora_attached import Attached

        return Attached.to(model, self, scale)

    @contextmanager
    def applied(self, model: "Model", *, scale: float = 1.0) -> Iterator["Model"]:
        """Use the adapter in everything the model runs inside the `with` block; see `attach`.

        Parameters
        ----------
        model : Model
        scale : float
        """
        attached = self.attach(model, scale=scale)
        try:
            yield model
        finally:
            attached.detach()


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
        axis = 1 if name == EMBEDDINGS else a.ndim - 2
        if a.ndim != b.ndim or a.ndim not in (2, 3) or a.shape[axis] != b.shape[-1]:
            raise GGUFError(
                f"{path}: {name!r}: expected matrices (rank, K) and (N, rank), got {a.shape} and "
                f"{b.shape}"
            )
    return pairs


def _read(file: GGUFFile, name: str) -> Floats:
    data = file.data(name)  # tells of a tensor that is missing
    info = file.tensors[name]
    values = np.array(formats.dequantize(info.type_name, data, info.shape), np.float32)
    if not np.isfinite(values).all():
        raise GGUFError(f"{file.paths[0]}: {name!r}: expected finite numbers, got others")
    return values
