"""Plans as a table and as a picture."""

import importlib
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from jitllm.llm.display import table_html
from jitllm.llm.plan_sizes import Share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jitllm.llm.plan import Plan

_HEAD = ("device", "layers", "weights", "caches", "compute", "total", "reserve")
_PARTS = {"weights": "weights", "caches": "held", "compute": "compute"}
_MIB = 1 << 20


def text(plan: "Plan") -> str:
    """Return a plan as lines of text."""
    rows = [_HEAD, *_rows(plan)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([_title(plan), *lines, *_notes(plan)])


def html(plan: "Plan") -> str:
    """Return a plan as a table."""
    notes = "".join(f"<div><small>{escape(note)}</small></div>" for note in _notes(plan))
    return f"<div>{escape(_title(plan))}{table_html(_HEAD, _rows(plan))}{notes}</div>"


def picture(plans: Sequence["Plan"], ax: "Axes | None" = None) -> "Axes":
    """Draw the bytes of each device, models and purposes one on the other.

    Parameters
    ----------
    plans : sequence of Plan
        Of models that are loaded together.
    ax : matplotlib Axes, optional
        By default those of a new figure.
    """
    axes: Any = ax if ax is not None else _new_axes()
    devices = list(dict.fromkeys(share.device for plan in plans for share in plan.shares))
    bottom = [0.0] * len(devices)
    for plan in plans:
        for part, name in _PARTS.items():
            sizes = [getattr(plan.share(device), name) / _MIB for device in devices]
            label = f"{plan.model}: {part}" if len(plans) > 1 else part
            axes.bar(devices, sizes, bottom=bottom, label=label)
            bottom = [low + size for low, size in zip(bottom, sizes, strict=True)]
    axes.set_ylabel("MiB")
    axes.set_title(", ".join(f"{plan.model} (n_ctx {plan.n_ctx})" for plan in plans))
    axes.legend()
    return axes  # type: ignore[no-any-return]


def _new_axes() -> Any:
    return importlib.import_module("matplotlib.pyplot").subplots()[1]


def _title(plan: "Plan") -> str:
    output = "with" if plan.output_on_device else "without"
    return (
        f"{plan.model}: n_ctx {plan.n_ctx}, {plan.n_layers_on_device}/{plan.n_layers} layers on "
        f"the device, {output} the output; bytes"
    )


def _rows(plan: "Plan") -> list[tuple[str, ...]]:
    return [(share.device, _layers(plan, share), *_sizes(share)) for share in plan.shares]


def _layers(plan: "Plan", share: Share) -> str:
    n = plan.placement.layers.count(share.device)
    return f"{n} + output" if plan.placement.output == share.device else str(n)


def _sizes(share: Share) -> tuple[str, ...]:
    sizes = (share.weights, share.caches, share.compute, share.total, share.reserve)
    return tuple(f"{size:,}" for size in sizes)


def _notes(plan: "Plan") -> list[str]:
    one = plan.n_sequences == 1
    sequences = "one full sequence" if one else f"{plan.n_sequences} full sequences"
    holds = any(share.holds_pool for share in plan.shares)
    cost = ", in a GPU's total" if holds else ", costs memory when they write to it"
    notes = [f"caches: {sequences}; reserve: left for others{cost}"]
    if chosen := plan.chosen():
        notes.append("placed by " + ", ".join(f"{name}={value}" for name, value in chosen.items()))
    if not plan.holds_sequences:
        notes.append(f"loading would not reserve enough for {sequences}: give more cache_bytes")
    return notes
