"""What the caches hold of a sequence, as a picture."""

import importlib
from typing import TYPE_CHECKING, Any

from jitllm.backends.base import PAGE_TOKENS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jitllm.llm.state.kept import KeptSequence

_KINDS = {"own": "#4c78a8", "shared": "#f2a541", "dropped": "#dddddd", "not computed": "#ffffff"}
_BAR = 0.7


def picture(sequence: "KeptSequence", ax: "Axes | None" = None) -> "Axes":
    """Draw the pages of each cache over the tokens; see `Sequence.show_cells`."""
    axes: Any = ax if ax is not None else _new_axes()
    now = sequence.contents
    names = [f"window {p.window}" if p.window else "full" for p in now.cells.pools]
    names += ["states"] if now.cells.state_sizes else []
    for row, holders in enumerate(now.cells.page_holders()):
        for kind, start, stop in _bars(holders, now.n_done, len(now.ids)):
            axes.barh(row, stop - start, _BAR, start, color=_KINDS[kind], edgecolor="#666666")
    lengths = now.cells.state_lengths
    axes.plot(lengths, [len(names) - 1] * len(lengths), "D", color=_KINDS["own"])
    for moment in sequence.history:
        axes.axvline(moment.n_tokens, color="#999999", linestyle=":")
        axes.annotate(f" {moment.label}", (moment.n_tokens, -0.45), fontsize="small")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.8)
    axes.set_xlim(0, max(1, len(now.ids)))
    axes.set_xlabel(f"tokens, {PAGE_TOKENS} in a page")
    axes.set_title(f"{len(now.ids)} tokens, {now.cells.nbytes:,} bytes", loc="left")
    patch = importlib.import_module("matplotlib.patches").Patch
    marks = [patch(facecolor=c, edgecolor="#666666", label=kind) for kind, c in _KINDS.items()]
    axes.legend(handles=marks, ncols=len(marks), loc="lower right", bbox_to_anchor=(1, 1),
                frameon=False, fontsize="small")  # fmt: skip
    return axes  # type: ignore[no-any-return]


def _bars(holders: list[int], n_done: int, n_tokens: int) -> list[tuple[str, int, int]]:
    """Kind, first token and end of each page, and of the tokens that have no cells."""
    bars = []
    for block, n_holders in enumerate(holders):
        start, stop = block * PAGE_TOKENS, min(n_done, (block + 1) * PAGE_TOKENS)
        kind = "shared" if n_holders > 1 else "own" if n_holders else "dropped"
        if start < stop:
            bars.append((kind, start, stop))
    return [*bars, ("not computed", n_done, n_tokens)] if n_done < n_tokens else bars


def _new_axes() -> Any:
    return importlib.import_module("matplotlib.pyplot").subplots(figsize=(9, 2.5))[1]
