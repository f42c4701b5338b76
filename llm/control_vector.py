"""Control vectors: directions added to the residual stream that change what a model writes."""

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from jitllm.llm.errors import GGUFError
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.loaders.gguf_writer import NewTensor, scalar, write_gguf
from jitllm.llm.texts import Text

if TYPE_CHECKING:
    from jitllm.llm.hooks import Hook
    from jitllm.llm.model import Model

Floats = npt.NDArray[np.float32]
Method = Literal["mean_diff", "pca"]

_TENSOR = re.compile(r"direction\.([0-9]{1,6})")
_ARCHITECTURE = "controlvector"
_METHODS = ("mean_diff", "pca")


@dataclass(frozen=True, slots=True, eq=False)
class ControlVector:
    """A direction for each of some layers, in the form of llama.cpp's control vectors.

    That of layer i is added to the residual stream behind layer i, counted from 0. As in
    llama.cpp, layer 0 has none.

    Source: Turner et al., "Activation Addition: Steering Language Models Without Optimization",
    2023; Zou et al., "Representation Engineering: A Top-Down Approach to AI Transparency", 2023.

    Attributes
    ----------
    directions : mapping of int to ndarray
        From layer, 1 or more, to float32 [n], n being the model's hidden size.
    model_hint : str
        Architecture of the model that it is for, "" if not known.

    Raises
    ------
    ValueError
        If there are no directions, or they are no finite vectors of one width.
    """

    directions: Mapping[int, Floats]
    model_hint: str = ""

    def __post_init__(self) -> None:
        arrays = {i: np.asarray(self.directions[i], np.float32) for i in sorted(self.directions)}
        shapes = {array.shape for array in arrays.values()}
        if len(shapes) != 1 or len(*shapes) != 1 or min(arrays) < 1:
            raise ValueError(
                "expected vectors of one width for layers from 1 on, got "
                f"shapes {sorted(shapes)} for layers {[*arrays]}"
            )
        bad = [i for i, array in arrays.items() if not np.isfinite(array).all()]
        if bad:
            raise ValueError(f"expected finite directions, got others in layers {bad}")
        object.__setattr__(self, "directions", arrays)

    @classmethod
    def from_pairs(
        cls,
        model: "Model",
        positive: list[str] | list[list[int]],
        negative: list[str] | list[list[int]],
        method: Method = "mean_diff",
    ) -> Self:
        """Make one of pairs of prompts that differ in what is to be changed.

        The residual stream at the last token of each prompt is taken, behind each layer, and the
        difference of each pair.

        Parameters
        ----------
        model : Model
        positive, negative : list of str or of ids
            As many of each.
        method : str
            "mean_diff": the mean of the differences. "pca": their first principal direction about
            the origin (what all pairs have in common, whatever their order), pointing as their mean
            does, as long as the differences are along it in the root mean square.

        Raises
        ------
        ValueError
            If the lists differ in length or are empty, the method is another, or the model has a
            single layer.
        HookError
            If the model's layers do not end in a residual stream.
        """
        if method not in _METHODS:
            raise ValueError(f"expected a method of {', '.join(_METHODS)}, got {method!r}")
        one, other = model.to_prompts(positive), model.to_prompts(negative)
        if len(one) != len(other) or not one:
            raise ValueError(f"expected prompts in pairs, got {len(one)} and {len(other)}")
        if model.config.num_hidden_layers < 2:
            raise ValueError("expected a model of two layers or more, got one with a single layer")
        pairs = [(_last(model, a), _last(model, b)) for a, b in zip(one, other, strict=True)]
        reduce = _mean if method == "mean_diff" else _principal
        layers = [i for i in pairs[0][0] if i]
        return cls(
            {i: reduce(np.stack([a[i] - b[i] for a, b in pairs])) for i in layers},
            model.config.architecture,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read one from a GGUF file with float32 tensors `direction.1`, `direction.2`, ...

        Raises
        ------
        ModelNotFoundError
            If there is no such file.
        GGUFError
            If the file is damaged, or holds no control vector.
        """
        with GGUFFile(path) as file:
            found = {name: _TENSOR.fullmatch(name) for name in file.tensors}
            layers = {name: int(match[1]) for name, match in found.items() if match}
            if not layers:
                raise GGUFError(f"{path}: expected tensors direction.1, ..., got none; "
                                "this is no control vector")  # fmt: skip
            for name in layers:
                if file.tensors[name].type_name != "F32":
                    got = file.tensors[name].type_name
                    raise GGUFError(f"{path}: tensor {name!r}: expected type F32, got {got}")
            directions = {layer: _read(file, name) for name, layer in layers.items()}
            hint = file.get(f"{_ARCHITECTURE}.model_hint", str, "")
        try:
            return cls(directions, hint)
        except ValueError as error:
            raise GGUFError(f"{path}: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a GGUF file that `load` and llama.cpp's `--control-vector` read.

        Parameters
        ----------
        path : path
            Replaced if there is such a file.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        values = {
            "general.architecture": scalar("string", _ARCHITECTURE),
            f"{_ARCHITECTURE}.model_hint": scalar("string", self.model_hint),
            f"{_ARCHITECTURE}.layer_count": scalar("uint32", len(self.layers)),
        }
        arrays = {f"direction.{i}": array for i, array in self.directions.items()}
        tensors = [NewTensor(name, array.shape, "F32") for name, array in arrays.items()]
        write_gguf(
            path, values, tensors, (iter([a.astype("<f4").tobytes()]) for a in arrays.values())
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that have a direction, ascending."""
        return tuple(self.directions)

    def __repr__(self) -> str:
        width = len(self.directions[self.layers[0]])
        hint = f" for {self.model_hint}" if self.model_hint else ""
        return f"<ControlVector{hint}: {len(self.layers)} layers, width {width}>"

    @contextmanager
    def steering(
        self, model: "Model", *, scale: float = 1.0, layers: Iterable[int] | None = None
    ) -> Iterator["Model"]:
        """Add the directions in everything the model runs inside the `with` block.

        Sequences keep in their caches what was computed so.

        Parameters
        ----------
        model : Model
        scale : float
            What the directions are multiplied by; negative for the opposite.
        layers : iterable of int, optional
            Layers to change; without it all that have a direction.

        Raises
        ------
        ValueError
            If the directions do not fit the model, a layer has none, or the scale is not finite.
        """
        with model.hooks(self._hooks(model, scale, layers)):
            yield model

    def _hooks(self, model: "Model", scale: float, layers: Iterable[int] | None) -> dict[str, Any]:
        chosen = self.layers if layers is None else tuple(layers)
        unknown = [i for i in chosen if i not in self.directions]
        if unknown or not math.isfinite(scale):
            raise ValueError(
                f"expected layers of {[*self.layers]} and a finite scale, got {unknown or scale}"
            )
        n_layers, width = model.config.num_hidden_layers, model.config.hidden_size
        own = len(self.directions[self.layers[0]])
        if own != width or max(chosen, default=0) >= n_layers:
            raise ValueError(
                f"expected directions of width {width} for layers below {n_layers}, got width "
                f"{own} and layers {[*chosen]}; this control vector is for another model"
            )
        return {f"blk.{i}.l_out": _adding(self.directions[i] * np.float32(scale)) for i in chosen}


def _adding(direction: Floats) -> Any:
    def add(activation: Floats, hook: "Hook") -> None:
        activation += direction

    return add


def _last(model: "Model", tokens: Text) -> dict[int, Floats]:
    """Return the residual stream behind each layer at the last token."""
    kept: dict[int, Floats] = {}

    def keep(activation: Floats, hook: "Hook") -> None:
        kept[hook.layer()] = activation[-1].copy()

    model.run_with_hooks(tokens, {"blk.*.l_out": keep}, rows=-1)
    return kept


def _mean(differences: Floats) -> Floats:
    return np.asarray(differences.mean(axis=0, dtype=np.float64), np.float32)


def _principal(differences: Floats) -> Floats:
    """Return the first right singular vector of [pairs, n], as long as the pairs are along it."""
    wide = differences.astype(np.float64)
    _, sizes, directions = np.linalg.svd(wide, full_matrices=False)
    length = sizes[0] / math.sqrt(len(wide))
    sign = -1.0 if directions[0] @ wide.mean(axis=0) < 0 else 1.0
    return np.asarray(sign * length * directions[0], np.float32)


def _read(file: GGUFFile, name: str) -> Floats:
    values = np.array(file.data(name).view("<f4"), np.float32)  # a copy outlives the file
    return values.reshape(file.tensors[name].shape)
