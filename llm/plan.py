"""`plan`: how many bytes a configuration uses on each device, before anything is loaded."""

import operator
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jitllm.backends.placement import CPU, Placement
from jitllm.llm.api import checked_n_ctx
from jitllm.llm.placing import Placing
from jitllm.llm.plan_sizes import ModelSizes, PlanSettings, Share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", re.IGNORECASE)

Bytes = int | str
Budget = Bytes | Mapping[str, Bytes]

__all__ = ["Plan", "Share", "plan"]


@dataclass(frozen=True)
class Plan:
    """Where a model's parts are and how many bytes they take.

    Attributes
    ----------
    model : str
    n_ctx : int
    n_sequences : int
        Full sequences of `n_ctx` tokens that `caches` counts.
    kv_dtype : str
    cache_bytes : int or None
        What `jitllm.load` needs to reserve what was planned.
    n_layers : int
        All layers of the file, blocks that predict further tokens included.
    n_layers_on_device : int
        Layers on the devices that were asked for.
    output_on_device : bool
        Whether the output is there too. llama.cpp counts it as one more layer.
    placement : Placement
    shares : tuple of Share
        One for each device that holds something.
    placing : Placing
        What was asked for, with numbers in place of "auto" and the split that was taken.
    """

    model: str
    n_ctx: int
    n_sequences: int
    kv_dtype: str
    cache_bytes: int | None
    n_layers: int
    n_layers_on_device: int
    output_on_device: bool
    placement: Placement
    shares: tuple[Share, ...]
    placing: Placing

    @property
    def n_placed(self) -> int:
        """Layers on the devices, the output being one: `n_gpu_layers` of llama.cpp."""
        return self.n_layers_on_device + self.output_on_device

    def chosen(self) -> dict[str, Any]:
        """Return the numbers that layers were placed by; nothing where one device has all."""
        if self.placing.n_gpu_layers is None:
            return {}
        others = {"split": self.placing.split, "n_cpu_moe": self.placing.n_cpu_moe}
        given = {name: value for name, value in others.items() if value}
        return {"n_gpu_layers": self.placing.n_gpu_layers, **given}

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `jitllm.load` that lead to this plan."""
        known = {
            "n_ctx": self.n_ctx, "kv_dtype": self.kv_dtype, "cache_bytes": self.cache_bytes
        }  # fmt: skip
        return known | self.placing.arguments()

    @property
    def total(self) -> int:
        """Bytes on all devices together when the planned sequences are full."""
        return sum(share.total for share in self.shares)

    @property
    def holds_sequences(self) -> bool:
        """Whether loading reserves cells enough for the planned sequences on every device."""
        return all(share.caches <= share.pool for share in self.shares)

    def share(self, device: str) -> Share:
        """Return what a device holds: nothing, for one that is not used."""
        return next((s for s in self.shares if s.device == device), Share(device))

    def fits(self, budget: Budget) -> bool:
        """Return whether no device needs more than its bytes.

        Parameters
        ----------
        budget : int, str, or mapping of str to these
            Bytes, or a text such as "8 GiB". One number is for all devices together; in a mapping
            each device has its own, and those left out have no limit.
        """
        return fit_together([self], budget)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as dicts, lists, texts and numbers."""
        shares = [asdict(s) | {"reserve": s.reserve, "total": s.total} for s in self.shares]
        return asdict(self) | {"shares": shares, "total": self.total}

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw a bar for each device; needs matplotlib.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default those of a new figure.
        """
        from jitllm.llm.plan_view import picture

        return picture([self], ax)

    def __str__(self) -> str:
        from jitllm.llm.plan_view import text

        return text(self)

    def _repr_html_(self) -> str:
        from jitllm.llm.plan_view import html

        return html(self)


def plan(
    ref: str | os.PathLike[str],
    *,
    device: str | Sequence[str] = CPU,
    n_ctx: int = 0,
    n_gpu_layers: int | str | None = None,
    progress: bool = True,
    **settings: Any,
) -> Plan:
    """Return how many bytes a model would use; nothing is loaded.

    The file's header is read, and the few tensors that are constants of the model's graph. The
    devices need not be there. Loading with the same settings then holds just these bytes:
    `Model.memory()` tells weights, `Share.pool` as "caches", and `Share.compute` as "buffers".

    Parameters
    ----------
    ref : str or path
        As for `jitllm.load`.
    device : str or sequence of str
        Names of backends, "name:1" being a second device of that kind.
    n_ctx : int
        0 for what the model was made for.
    n_gpu_layers : int or str, optional
        As for `jitllm.load`; "auto" asks the devices, which must be there. Several devices without
        a `split` are asked too, and share equally if one is missing.
    progress : bool
        As for `jitllm.load`.
    **settings
        `n_threads`, `kv_dtype`, `precision`, `cache_bytes` and those of placing as for
        `jitllm.load`; `n_sequences` (1): full sequences to count.

    Raises
    ------
    TypeError, ValueError
        If an argument is none of what it may be.
    ModelNotFoundError, ModelFormatError, UnsupportedArchitecture, UnsupportedFormat
        As `jitllm.load` does.
    BackendError
        If a device has no byte rules, or cannot run the model.
    """
    given = PlanSettings(device=device, n_ctx=n_ctx, n_gpu_layers=n_gpu_layers, **settings)
    with open_sizes(ref, given, progress=progress) as sizes:
        if given.is_auto:
            from jitllm.llm.plan_auto import automatic

            return automatic(sizes)
        n_ctx = checked_n_ctx(n_ctx) or sizes.config.max_position_embeddings
        return plan_of(sizes, n_ctx, given.placing.settled())


def open_sizes(
    ref: str | os.PathLike[str], settings: PlanSettings, *, progress: bool, is_tight: bool = False
) -> ModelSizes:
    """Open a model's file for planning; errors are those of `plan`."""
    from jitllm.llm.loaders.sources import resolve

    _check(settings)
    return ModelSizes(Path(resolve(ref, progress=progress)), settings, is_tight=is_tight)


def plan_of(sizes: ModelSizes, n_ctx: int, placing: Placing) -> Plan:
    """Return the plan of an open file."""
    placement, devices = placing.placement(sizes.n_layers), placing.devices
    return Plan(
        sizes.name, n_ctx, sizes.settings.n_sequences, sizes.kv_dtype, sizes.cache_bytes(n_ctx),
        sizes.n_layers,
        sum(device in devices for device in placement.layers), placement.output in devices,
        placement, sizes.shares(n_ctx, placement), placing.explicit(sizes.n_layers),
    )  # fmt: skip


def fit_together(plans: Sequence[Plan], budget: Budget) -> bool:
    """Return whether several plans at once stay within a budget; see `Plan.fits`."""
    if not all(plan.holds_sequences for plan in plans):
        return False
    if not isinstance(budget, Mapping):
        return sum(plan.total for plan in plans) <= n_bytes(budget)
    return all(
        sum(plan.share(device).total for plan in plans) <= n_bytes(limit)
        for device, limit in budget.items()
    )


def n_bytes(size: Bytes) -> int:
    """Return the bytes that a number or a text such as "8 GiB" or "512M" says.

    K, M, G and T are powers of 1024, as with llama.cpp and the system's tools.

    Raises
    ------
    TypeError, ValueError
        If it is no such thing.
    """
    if not isinstance(size, str):
        return operator.index(size)
    match = _SIZE.fullmatch(size)
    if not match:
        raise ValueError(f'expected bytes as a number or as "512 MiB", "8G"; got {size!r:.80}')
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def _check(settings: PlanSettings) -> None:
    settings.checked()
    if settings.n_sequences < 1:
        raise ValueError(f"expected n_sequences of at least 1, got {settings.n_sequences}")
