"""Progress bars that appear only when something takes longer than a second."""

import importlib
import importlib.util
import time
from collections.abc import Callable
from typing import Any

from jitllm.llm.display import in_notebook

_DELAY_S = 1.0
_COUNT_ONLY = "{desc}: {n} done, {elapsed}{postfix}"  # where the end is not known


class ProgressBar:
    """A bar on stderr, or a widget in a notebook; tqdm is imported when it first shows.

    Parameters
    ----------
    enabled : bool
    title : str
    unit : str
    scale : bool
        Write numbers with k, M, G.
    """

    def __init__(self, enabled: bool, title: str, unit: str = "B", scale: bool = False) -> None:
        self._enabled, self._title, self._unit, self._scale = enabled, title, unit, scale
        self._started = time.monotonic()
        self._bar: Any = None

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """Say how much is done."""
        if not self._enabled or time.monotonic() - self._started < _DELAY_S:
            return
        if self._bar is None:
            self._bar = self._open(total)
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)
        if note:  # seldom, and then worth seeing at once
            self._bar.refresh()

    def _open(self, total: int | None) -> Any:
        module, stays = _kind()
        form = {} if total is not None else {"bar_format": _COUNT_ONLY}
        return importlib.import_module(module).tqdm(
            total=total, desc=self._title, unit=self._unit, unit_scale=self._scale, leave=stays,
            **form,
        )  # fmt: skip

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _kind() -> tuple[str, bool]:
    """Return the module whose bar fits the place, and whether the bar stays when it is done.

    A notebook without widgets cannot clear a line: a bar that went would leave a blank one.
    """
    if not in_notebook():
        return "tqdm.std", False
    if importlib.util.find_spec("ipywidgets") is None:
        return "tqdm.std", True
    return "tqdm.notebook", False


class LoadProgress:
    """What `load` shows: bytes of weights, and kernels while they are compiled; one bar at a time.

    Parameters
    ----------
    enabled : bool
    """

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._weights = ProgressBar(enabled, "loading weights", scale=True)
        self._kernels = ProgressBar(enabled, "compiling kernels (once)", unit="kernel")
        self._bytes: tuple[int, int] | None = None  # until all weights are there
        self._n = 0
        self._stop: Callable[[], None] = lambda: None

    def __enter__(self) -> "LoadProgress":
        if self._enabled:
            from jitllm.kernels import jit

            self._stop = jit.on_compile(self._compile)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._weights.close()
        self._kernels.close()

    def update(self, done: int, total: int) -> None:
        """Say how many bytes of weights are loaded."""
        self._bytes = (done, total)
        self._weights.update(done, total)
        if done >= total:
            self._weights.close()
            self._bytes = None

    def _compile(self, name: str) -> None:
        if self._bytes:
            self._weights.update(*self._bytes, note=f"compiling {name} (once)")
        else:
            self._kernels.update(self._n, note=name)
        self._n += 1
