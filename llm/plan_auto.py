"""What goes to the devices where nobody says how much: as much as fits into their memory.

The order is llama.cpp's (common/fit.cpp, 0.5.0). If all of the model fits, all of it goes there. If
the context was left open, it becomes shorter for that, down to 4096 tokens. Else the experts of as
few layers as possible stay on the CPU; and where all experts there are not enough, or the model has
none, the layers before the last ones do. Several devices are filled from the last to the first
then, unless there is a split.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jitllm.backends.placement import EXPERTS
from jitllm.llm.errors import BackendError
from jitllm.llm.placing import ALL, Placing, memory_of
from jitllm.llm.plan import Plan, plan_of
from jitllm.llm.plan_sizes import ModelSizes, PlanSettings

LEAST_CTX = 4096
"""Tokens that a context which was left open has at least, unless the model was made for fewer."""

_STEP = 256  # of contexts
_log = logging.getLogger("jitllm.placing")


@dataclass(frozen=True)
class Search:
    """Looks for the plan of a model that uses the devices most.

    Parameters
    ----------
    sizes : ModelSizes
    fits : callable
        Whether a plan does. Fewer layers, fewer experts and shorter contexts must fit, too.
    fills : bool
        Fill devices one after the other where a split does not fit; else there is a split.
    """

    sizes: ModelSizes
    fits: Callable[[Plan], bool]
    fills: bool = False

    def most(self, n_ctx: int, placing: Placing) -> Plan | None:
        """Return the plan for a context; None if nothing fits, not even no layer."""
        if found := self.whole(n_ctx, placing):
            return found
        if not self._has_experts(placing):
            return self._layers(n_ctx, placing)
        n_layers = self.sizes.n_layers

        def without(n: int) -> Plan | None:
            return self.whole(n_ctx, replace(placing, n_cpu_moe=n))

        if not without(n_layers):
            return self._layers(n_ctx, replace(placing, n_cpu_moe=n_layers))
        return without(n_layers - largest(1, n_layers - 1, lambda n: bool(without(n_layers - n))))

    def whole(self, n_ctx: int, placing: Placing) -> Plan | None:
        """Return a plan with all layers on the devices, if there is one that fits."""
        alone, shared = (replace(placing, n_gpu_layers=number) for number in (None, ALL))
        for there in (alone, shared) if alone.is_whole else (shared,):
            found = plan_of(self.sizes, n_ctx, there)
            if self.fits(found):
                return found
        filled = self._filled(n_ctx, placing) if self.fills else None
        return filled if filled and filled.n_placed == self.sizes.n_layers + 1 else None

    def _has_experts(self, placing: Placing) -> bool:
        """Whether there are any, which nobody placed."""
        placed = placing.cpu_moe or placing.n_cpu_moe or placing.overrides
        return not placed and any(re.search(EXPERTS, name) for name in self.sizes.file.tensors)

    def _layers(self, n_ctx: int, placing: Placing) -> Plan | None:
        return self._filled(n_ctx, placing) if self.fills else self._shared(n_ctx, placing)

    def _shared(self, n_ctx: int, placing: Placing) -> Plan | None:
        """Return the plan with most layers in the proportions of the split."""
        # every number is tried: with overrides or a split, more layers may need less
        for number in range(self.sizes.n_layers + 1, -1, -1):
            found = plan_of(self.sizes, n_ctx, replace(placing, n_gpu_layers=number))
            if self.fits(found):
                return found
        return None

    def _filled(self, n_ctx: int, placing: Placing) -> Plan | None:
        """Return the plan with most layers where the last device is filled first."""
        n_devices = len(placing.devices)
        counts = [0] * n_devices

        def plan_with(place: int, number: int) -> Plan:
            split = [*counts[:place], number, *counts[place + 1 :]]
            there = replace(placing, n_gpu_layers=sum(split), split=split if any(split) else None)
            return plan_of(self.sizes, n_ctx, there)

        for place in reversed(range(n_devices)):
            room = self.sizes.n_layers + 1 - sum(counts)
            counts[place] = largest(1, room, lambda n, i=place: self.fits(plan_with(i, n)))
        found = plan_with(0, counts[0])
        return found if self.fits(found) else None


def automatic(sizes: ModelSizes) -> Plan:
    """Return the plan of a model by what is free on its devices now.

    Raises
    ------
    BackendError
        If a device is missing or does not tell its memory, or nothing fits.
    """
    placing = sizes.settings.placing
    limits = free_bytes(placing)

    def fits(plan: Plan) -> bool:
        return all(plan.share(device).total <= limit for device, limit in limits.items())

    search = Search(sizes, fits, fills=len(limits) > 1 and placing.split is None)
    split = placing.split if placing.split is not None or len(limits) == 1 else [*limits.values()]
    found = _with_context(search, replace(placing, split=split))
    if not found:
        raise BackendError(
            f"expected memory for what has to be on {placing.devices}; free are {limits} bytes "
            f"without a margin of {placing.margin}: use fewer overrides, or another device"
        )
    _tell(found, limits)
    return found


def _with_context(search: Search, placing: Placing) -> Plan | None:
    sizes = search.sizes
    given, made_for = sizes.settings.n_ctx, sizes.config.max_position_embeddings
    if found := search.whole(given or made_for, placing):
        return found
    least = given or min(LEAST_CTX, made_for)
    n_steps = largest(
        -(-least // _STEP), (made_for - 1) // _STEP,
        lambda n: bool(search.whole(n * _STEP, placing)),
    ) if not given else 0  # fmt: skip
    return search.most(n_steps * _STEP or least, placing)


def settled(path: Path, placing: Placing, **loading: Any) -> tuple[Placing, int]:
    """Return where a model is to be loaded, and its `n_ctx`, as its devices' memory allows.

    Parameters
    ----------
    path : Path
    placing : Placing
    **loading
        The other fields of `PlanSettings`.

    Raises
    ------
    BackendError
        As `automatic` does.
    """
    with ModelSizes(path, PlanSettings(**placing.arguments(), **loading)) as sizes:
        found = automatic(sizes)
    return found.placing, found.n_ctx


def free_bytes(placing: Placing) -> dict[str, int]:
    """Return what is free on each device beyond the margin; BackendError if one does not tell."""
    memory = memory_of(placing.devices)
    if not memory:
        raise BackendError(
            f"expected devices that are here and tell how much of their memory is free, got "
            f'{placing.devices}; n_gpu_layers="auto" goes by it: give a number of layers, or a '
            "budget to `jitllm.fit` or `jitllm plan --budget`"
        )
    return {device: max(0, each.free - placing.margin) for device, each in memory.items()}


def largest(least: int, most: int, fits: Callable[..., bool]) -> int:
    """Return the largest number from `least` to `most` that fits, 0 if none does.

    Whatever fits, smaller numbers must fit too.
    """
    if most < least or not fits(least):
        return 0
    while least < most:
        middle = (least + most + 1) // 2
        if fits(middle):
            least = middle
        else:
            most = middle - 1
    return least


def _tell(found: Plan, limits: Mapping[str, int]) -> None:
    """Log what was chosen."""
    chosen = {"n_ctx": found.n_ctx, **found.chosen()}
    _log.info(
        "%s: %d of %d layers and output on %s: %s; bytes free were %s", found.model,
        found.n_placed, found.n_layers + 1, found.placing.devices,
        ", ".join(f"{name}={value}" for name, value in chosen.items()), dict(limits),
    )  # fmt: skip
