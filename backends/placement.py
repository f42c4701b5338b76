"""Which device holds which layer: arithmetic on names and numbers, no device is asked.

The count is llama.cpp's (src/llama-model.cpp, 0.5.0). A model of n layers, blocks that predict
further tokens included, has n + 1 places: the layers, then the output. `n_gpu_layers` of them, the
last ones, go to the devices, so 1 moves the output alone and n leaves one layer behind. The input
embedding stays on the CPU.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CPU = "cpu"
ALL = -1
"""`n_gpu_layers` for every layer and the output; so does any other negative number."""

EXPERTS = r"\.ffn_(gate|up|down|gate_up)_(ch)?exps"
DENSE = r"\.ffn_(gate|up|down)\."

_LAYER = re.compile(r"(?:^|\.)blk\.(\d+)\.")
_INPUTS = ("token_embd.", "position_embd.", "token_types.", "per_layer_token_embd.")
_FIRST_LAYER = ("token_embd_norm.", "hrm.z_l_init")  # computed where the first layer is
_EMBEDDING = "token_embd.weight"

Override = tuple[str, str]
Floats = npt.NDArray[np.float32]


def layer_of(name: str) -> int | None:
    """Return the number of the layer that a tensor or a node belongs to, None outside of layers."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


@dataclass(frozen=True)
class Placement:
    """The device of every part of a model.

    Attributes
    ----------
    layers : tuple of str
        Of each layer.
    output : str
        Of the output layer and what else stands behind the layers.
    caches : tuple of str
        Of each layer's cells and states.
    overrides : tuple of (str, str)
        Expressions and devices: the first that is found in a tensor's name decides.
    input : str
        Of the input embedding.
    """

    layers: tuple[str, ...]
    output: str
    caches: tuple[str, ...]
    overrides: tuple[Override, ...] = ()
    input: str = CPU

    @property
    def n_layers_on_device(self) -> int:
        """Layers that are on another device than the CPU."""
        return sum(device != CPU for device in self.layers)

    @property
    def output_on_device(self) -> bool:
        """Whether the output is on another device than the CPU."""
        return self.output != CPU

    def device_of(self, tensor: str, *, as_output: bool = False) -> str:
        """Return the device that holds a tensor.

        Parameters
        ----------
        tensor : str
            Its name in the file.
        as_output : bool
            Take the embedding as the output's weight, where a model has one matrix for both.

        Raises
        ------
        ValueError
            If the name has the number of a layer that the model lacks.
        """
        if moved := self.override_of(tensor):
            return moved
        layer = 0 if tensor.startswith(_FIRST_LAYER) else layer_of(tensor)
        if layer is not None:
            return self.layers[self._checked(layer, tensor)]
        is_input = tensor.startswith(_INPUTS) and not (as_output and tensor == _EMBEDDING)
        return self.input if is_input else self.output

    def override_of(self, tensor: str) -> str:
        """Return the device that an override names for a tensor, "" if none does."""
        found = (device for text, device in self.overrides if re.search(text, tensor))
        return next(found, "")

    @property
    def devices(self) -> tuple[str, ...]:
        """All devices that may hold something, each once, the CPU first."""
        named = (device for _, device in self.overrides)
        return tuple(dict.fromkeys(
            (self.input, *self.layers, self.output, *self.caches, *named)
        ))  # fmt: skip

    def cache_of(self, node: str) -> str:
        """Return the device of the cells or states that a node keeps; ValueError as above."""
        layer = layer_of(node)
        return self.output if layer is None else self.caches[self._checked(layer, node)]

    def _checked(self, layer: int, name: str) -> int:
        if layer >= len(self.layers):
            raise ValueError(f"{name!r}: expected a layer below {len(self.layers)}, got {layer}")
        return layer


def place(
    n_layers: int,
    n_gpu_layers: int = ALL,
    devices: Sequence[str] = (),
    *,
    split: Sequence[float] | None = None,
    overrides: Sequence[Override] = (),
    cpu_moe: bool = False,
    n_cpu_moe: int = 0,
    n_cpu_ffn: int = 0,
    offload_kv: bool = True,
) -> Placement:
    """Place a model's layers.

    Parameters
    ----------
    n_layers : int
        All layers of the file, blocks that predict further tokens included.
    n_gpu_layers : int
        Places to fill from the end, the output being the last; negative for all. More than there
        are is all.
    devices : sequence of str
        Those beside the CPU; without any, everything stays on the CPU.
    split : sequence of float, optional
        Proportions of the devices; those left out are 0. Without, or all 0, equal parts.
    overrides : sequence of (str, str)
        Expressions, searched in tensor names, and devices; the first match wins.
    cpu_moe : bool
        Leave the experts' weights of all layers on the CPU.
    n_cpu_moe, n_cpu_ffn : int
        Leave those of the first layers there: experts, or dense feed-forward weights.
    offload_kv : bool
        Put cells and states where their layer is; otherwise on the CPU.

    Raises
    ------
    ValueError
        If a number, an expression or a device is none.
    """
    _check(n_layers, n_cpu_moe, n_cpu_ffn)
    n_placed = n_layers + 1 if n_gpu_layers < 0 else min(n_gpu_layers, n_layers + 1)
    ends = _ends(split, len(devices)) if devices else np.zeros(0, np.float32)
    first = n_layers + 1 - n_placed if devices else n_layers + 1

    def device(i: int) -> str:
        if i < first:
            return CPU
        part = np.float32(i - first) / np.float32(n_placed)
        return devices[int(np.searchsorted(ends, part, side="right"))]

    placed = tuple(device(i) for i in range(n_layers + 1))
    rules = [*overrides, *_cpu_rules(cpu_moe, n_cpu_moe, n_cpu_ffn)]
    _check_overrides(rules, {CPU, *devices})
    caches = placed[:-1] if offload_kv else (CPU,) * n_layers
    return Placement(placed[:-1], placed[-1], caches, tuple(rules))


def _cpu_rules(cpu_moe: bool, n_cpu_moe: int, n_cpu_ffn: int) -> list[Override]:
    rules = [(EXPERTS, CPU)] if cpu_moe else []
    rules += [(rf"blk\.{i}{EXPERTS}", CPU) for i in range(n_cpu_moe)]
    return rules + [(rf"blk\.{i}{DENSE}", CPU) for i in range(n_cpu_ffn)]


def _ends(split: Sequence[float] | None, n_devices: int) -> Floats:
    """Return where each device's part ends, from 0 to 1, in float32 as llama.cpp has them."""
    given = list(split or ())
    if len(given) > n_devices or not all(0 <= x < float("inf") for x in given):
        raise ValueError(
            f"expected a split of at most {n_devices} numbers of at least 0, one for each device, "
            f"got {given}"
        )
    parts = given + [0.0] * (n_devices - len(given)) if any(given) else [1.0] * n_devices
    ends: Floats = np.cumsum(np.array(parts, np.float32), dtype=np.float32)
    ends /= ends[-1]
    return ends


def _check(n_layers: int, n_cpu_moe: int, n_cpu_ffn: int) -> None:
    if n_layers < 1:
        raise ValueError(f"expected at least one layer, got {n_layers}")
    if min(n_cpu_moe, n_cpu_ffn) < 0:
        raise ValueError(
            f"expected numbers of layers of at least 0, got n_cpu_moe={n_cpu_moe}, "
            f"n_cpu_ffn={n_cpu_ffn}"
        )


def _check_overrides(overrides: Sequence[Override], devices: set[str]) -> None:
    for expression, device in overrides:
        if device not in devices:
            raise ValueError(
                f"override {expression!r}: expected a device among {sorted(devices)}, got "
                f"{device!r}"
            )
        try:
            re.compile(expression)
        except re.error as error:
            raise ValueError(f"override {expression!r}: expected an expression: {error}") from error
