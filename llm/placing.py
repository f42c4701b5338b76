"""Which devices a model is to be on, as `jitllm.load` and `jitllm.plan` are told."""

import logging
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jitllm.backends.base import DeviceMemory
    from jitllm.backends.placement import Placement

CPU = "cpu"
ALL = -1  # layers; any other negative number is the same
AUTO = "auto"
_PARTS = 8  # of a device's memory, which free memory counts in
_log = logging.getLogger("jitllm.placing")


@dataclass(frozen=True)
class Placing:
    """Devices, and how the layers of a model are shared between them.

    Attributes
    ----------
    device : str or sequence of str
        Names of `jitllm.backends.names()`, "vulkan:1" being the second device of that kind. One
        device runs the model alone unless something below says otherwise. The CPU always has a
        part where several share it, and is not named beside others.
    n_gpu_layers : int or str, optional
        How many layers go to the devices, as llama.cpp counts them: the last ones, the output
        being one more; the others and the input embedding stay on the CPU. -1 or "all" for all,
        which is what None means where a model is shared. "auto" for what the devices' free memory
        holds: see `jitllm.llm.plan_auto`.
    split : sequence of float, optional
        Proportions of the devices' layers. By default those of their free memory, where all tell
        it, in eighths of what each has, so that small changes seldom move a layer. Else equal
        parts.
    overrides : mapping, or sequence of pairs, of str to str
        Expressions that are searched in tensor names, and the device of those tensors: "cpu" or
        one of `device`. The first match wins. The operation that reads the tensor moves with it,
        and so do the other tensors that it reads.
    cpu_moe : bool
        Leave the experts' weights of all layers on the CPU.
    n_cpu_moe, n_cpu_ffn : int
        Leave those of the first layers there: experts, or dense feed-forward weights.
    offload_kv : bool
        Put cells and states where their layer is; otherwise on the CPU.
    margin : int
        Bytes of each device that "auto" leaves free.
    """

    device: str | Sequence[str] = CPU
    n_gpu_layers: int | str | None = None
    split: Sequence[float] | None = None
    overrides: Sequence[tuple[str, str]] | Mapping[str, str] = ()
    cpu_moe: bool = False
    n_cpu_moe: int = 0
    n_cpu_ffn: int = 0
    offload_kv: bool = True
    margin: int = 1 << 30

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that were asked for."""
        return (self.device,) if isinstance(self.device, str) else tuple(self.device)

    @property
    def is_whole(self) -> bool:
        """Whether one device runs the model alone."""
        return self.devices == (CPU,) or not (len(self.devices) > 1 or self._moves())

    @property
    def is_auto(self) -> bool:
        """Whether the devices' memory decides how many layers they get."""
        return self.n_gpu_layers == AUTO and self.devices != (CPU,)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `jitllm.load` that say the same."""
        return {each.name: getattr(self, each.name) for each in fields(Placing)}

    def settled(self) -> "Placing":
        """Return this with the split that several devices get by default; they are asked for it."""
        if self.split is not None or len(self.devices) == 1:
            return self
        memory = memory_of(self.devices)
        if not memory:
            return self
        split = [parts_free(each) for each in memory.values()]
        _log.info("split by free memory: %s", dict(zip(self.devices, split, strict=True)))
        return replace(self, split=split)

    def _moves(self) -> list[str]:
        """Return the names of what moves parts; proportions of one device do not."""
        given = {
            "n_gpu_layers": self.n_gpu_layers is not None, "overrides": len(self.overrides),
            "cpu_moe": self.cpu_moe, "n_cpu_moe": self.n_cpu_moe, "n_cpu_ffn": self.n_cpu_ffn,
            "offload_kv": not self.offload_kv,
        }  # fmt: skip
        return [name for name, value in given.items() if value]

    def checked(self) -> "Placing":
        """Return this; ValueError if these are no devices that can share a model."""
        devices = self.devices
        if not devices or (len(devices) > 1 and (CPU in devices or len({*devices}) < len(devices))):
            raise ValueError(
                f"expected one device, or several different ones beside the CPU: {devices}"
            )
        if self.split and len(self.split) > len(devices):
            raise ValueError(
                f"expected a split of at most {len(devices)} numbers, one for each device, got "
                f"{self.split}"
            )
        if not self.margin >= 0:
            raise ValueError(f"expected a margin of at least 0 bytes, got {self.margin}")
        if devices == (CPU,) and (moves := self._moves()):
            self._place(1, 0, ())  # what is wrong is told
            _log.warning("%s: no effect with device='cpu'", ", ".join(moves))
        return self

    def placement(self, n_layers: int) -> "Placement":
        """Return where all parts of a model are.

        Parameters
        ----------
        n_layers : int
            All layers of the file, blocks that predict further tokens included.

        Raises
        ------
        TypeError, ValueError
            If something is none of what it may be.
        """
        if self.is_whole:
            from jitllm.backends.placement import Placement

            device = self.devices[0]
            layers = (device,) * n_layers
            return Placement(layers, device, layers, input=device)
        return self._place(n_layers, as_number(self.n_gpu_layers), self.devices)

    def explicit(self, n_layers: int) -> "Placing":
        """Return this with numbers for what has a default, unless one device has all."""
        if self.is_whole:
            return self
        number, devices = as_number(self.n_gpu_layers), self.devices
        parts = tuple(float(part) for part in self.split or [1] * len(devices))
        split = parts if len(devices) > 1 else None
        most = n_layers + 1
        number = most if number < 0 else min(number, most)
        return replace(self, n_gpu_layers=number, split=split)

    def _place(self, n_layers: int, n_gpu_layers: int, devices: tuple[str, ...]) -> "Placement":
        from jitllm.backends.placement import place

        overrides = self.overrides
        pairs = overrides.items() if isinstance(overrides, Mapping) else overrides
        return place(
            n_layers, n_gpu_layers, devices, split=self.split if devices else None,
            overrides=[*pairs], cpu_moe=self.cpu_moe, n_cpu_moe=self.n_cpu_moe,
            n_cpu_ffn=self.n_cpu_ffn, offload_kv=self.offload_kv,
        )  # fmt: skip


def memory_of(devices: Sequence[str]) -> "dict[str, DeviceMemory]":
    """Return the memory of devices by name; nothing if one is missing or does not tell."""
    from jitllm import backends
    from jitllm.backends.base import BackendUnavailable

    found = dict[str, "DeviceMemory"]()
    for device in devices:
        try:
            memory = backends.device_memory(device)
        except BackendUnavailable as error:
            _log.debug("%s", error)
            return {}
        if memory is None:
            return {}
        found[device] = memory
    return found


def parts_free(memory: "DeviceMemory") -> float:
    """Return the free GiB of a device, rounded to eighths of all that it has."""
    return round(_PARTS * memory.free / max(1, memory.total)) / _PARTS * memory.total / 2**30


def as_number(n_gpu_layers: int | str | None) -> int:
    """Return the number of layers that was asked for, None being all; TypeError if it is none."""
    if n_gpu_layers is None or n_gpu_layers == "all":
        return ALL
    if isinstance(n_gpu_layers, bool | str) or not hasattr(n_gpu_layers, "__index__"):
        raise TypeError(
            f'expected n_gpu_layers as an int, "all" or "auto", got {n_gpu_layers!r:.80}'
        )
    return operator.index(n_gpu_layers)
