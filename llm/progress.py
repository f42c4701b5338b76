"""Progress bars that appear only when something takes longer than a second."""

import time
from collections.abc import Callable
from typing import Any

_DELAY_S = 1.0


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
            from tqdm.auto import tqdm

            self._bar = tqdm(
                total=total, desc=self._title, unit=self._unit, unit_scale=self._scale, leave=False
            )
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


class CompileProgress:
    """Counts kernels while they are compiled, as a bar if that takes long.

    Parameters
    ----------
    enabled : bool
    """

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._bar = ProgressBar(enabled, "compiling kernels (once)", unit="kernel")
        self._n = 0
        self._stop: Callable[[], None] = lambda: None

    def __enter__(self) -> "CompileProgress":
        if self._enabled:
            from jitllm.kernels import jit

            self._stop = jit.on_compile(self._next)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._bar.__exit__()

    def _next(self, name: str) -> None:
        self._n += 1
        self._bar.update(self._n, note=name)
