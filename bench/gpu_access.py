"""How CUDA kernels touch memory, found without a GPU: `python bench/gpu_access.py MODEL`.

A prompt and two tokens run in the simulator. Of each kernel's largest launch the first workgroup is
recorded: for every place in the source that loads or stores, the 32-byte sectors that a warp takes
at once, how much of them it uses and how often the workgroup takes them again; or the
passes over the banks of shared memory, and the part of them that would be enough. With `--races`,
what every thread touches is compared with what the others did instead.
"""

import argparse
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import jitllm
from jitllm.kernels.gpu.compiler import Code
from jitllm.kernels.gpu.races import Races
from jitllm.kernels.gpu.simulator import Watcher
from jitllm.kernels.gpu.trace import Site, Trace

HEAD = f"  {'place':30}{'what':22}{'requests':>8}{'each':>7}{'used':>6}{'again':>7}"
Grid = tuple[int, int, int]


class Recorder(Watcher):
    """Keeps the sites of the largest launch of each kernel.

    Parameters
    ----------
    kernels : sequence of str
        How the names begin of those to record; all if there are none.
    """

    def __init__(self, kernels: Sequence[str] = ()) -> None:
        self._trace, self._kernels = Trace(), tuple(kernels) or ("",)
        self._largest, self._now = dict[str, int](), ""
        self.phase = ""  # what is going on: part of the kernels' names in `found`
        self.found: dict[str, list[Site]] = {}

    def begin(self) -> None:
        """Do nothing; see `Watcher`."""

    def words(self, code: Code, grid: Grid) -> dict[int, int]:
        """Return words of a GPU's state, none if a launch is not wanted; see `Watcher`."""
        kernel, groups = code.name.partition("cuda.")[2], math.prod(grid)
        self._now = f"{kernel}, {self.phase}"
        if not kernel.startswith(self._kernels) or self._largest.get(self._now, 0) >= groups:
            return {}
        self._largest[self._now] = groups
        return self._trace.words(code, grid)

    def report(self, state: Any, arrays: Any) -> str:
        """Keep what was recorded; see `Watcher`."""
        self.found[self._now] = self._trace.sites()
        return ""


@contextmanager
def watched(model: jitllm.Model, watcher: Watcher) -> Iterator[None]:
    """Have a model's simulator tell someone of every load and store meanwhile."""
    driver = model.engine.backend.device.driver  # type: ignore[attr-defined]
    driver.watcher = watcher
    try:
        yield
    finally:
        driver.watcher = None


def run(model: jitllm.Model, n_prompt: int, watcher: Watcher) -> None:
    """Run a prompt and two tokens."""
    ids = [(7 * i + 3) % model.n_vocab for i in range(n_prompt)]
    with model.sequence() as sequence, watched(model, watcher):
        for phase, part in (("prompt", ids), ("decode", ids[:1]), ("decode", ids[1:2])):
            if isinstance(watcher, Recorder):
                watcher.phase = phase
            np.asarray(sequence.append(part).logits)


def row(site: Site) -> str:
    """Return a line of the table."""
    what = f"{'store' if site.is_store else 'load'} {site.lane_bytes}"
    each, again = f"{site.steps / site.requests:.1f}", ""
    if site.distinct:
        again = f"{site.steps / site.distinct:.1f}"
    what += " shared" if site.is_shared else ""
    used = f"{site.efficiency:.0%}"
    return f"  {site.place:30}{what:22}{site.requests:8}{each:>7}{used:>6}{again:>7}".rstrip()


def main() -> None:
    """Print a table for each kernel."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="path of a .gguf file")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of the prompt")
    parser.add_argument("--kernels", nargs="*", default=[], help="how their names begin")
    parser.add_argument("--kv", default=None, help="type of the cache")
    parser.add_argument("--races", action="store_true", help="look for races")
    options = parser.parse_args()
    os.environ["JITLLM_CUDA"] = "simulator"
    watcher = Races(1 << 27) if options.races else Recorder(options.kernels)
    kv = {"kv_dtype": options.kv} if options.kv else {}
    with jitllm.load(options.model, device="cuda", progress=False, **kv) as model:
        run(model, options.prompt, watcher)
    if isinstance(watcher, Recorder):
        for kernel, sites in sorted(watcher.found.items()):
            print("\n".join([kernel, HEAD, *map(row, sites)]), flush=True)


if __name__ == "__main__":
    main()
