"""Speed of models on a CUDA device: `python bench/gpu.py MODEL...`.

Per model: tokens per second of a prompt and of decoding, the bytes of weights that decoding reads
beside the bandwidth at which the device copies its own memory, and the part of a token's time in
which the device waits for the host.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from compare import bytes_per_token

import jitllm
from jitllm.backends._cuda.api import Driver
from jitllm.backends._cuda.device import open_device


@dataclass(frozen=True)
class Round:
    """Seconds of one round; `busy` are those of decoding in which the device worked."""

    prompt: float
    decode: float
    busy: float


class DeviceClock:
    """Adds up the seconds that a driver's graphs take on the device."""

    def __init__(self, driver: Driver) -> None:
        self._driver, self.seconds = driver, 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time every graph that is run meanwhile."""
        plain = self._driver.run
        self._driver.run = self._run  # type: ignore[method-assign]
        try:
            yield
        finally:
            self._driver.run = plain  # type: ignore[method-assign]

    def _run(self, graph: object) -> None:
        self.seconds += self._driver.seconds(graph)


def copy_bandwidth(driver: Driver, nbytes: int, rounds: int) -> float:
    """Return the bytes per second that are read and written when the device copies memory."""
    source, target = driver.allocate(nbytes), driver.allocate(nbytes)
    out, best = np.empty(1, np.uint8), float("inf")
    for _ in range(rounds + 1):
        start = time.perf_counter()
        driver.copy(target, source, nbytes)
        driver.download(out, target)  # waits for the copy
        best = min(best, time.perf_counter() - start)
    driver.free(source)
    driver.free(target)
    return 2 * nbytes / best


def measure(model: jitllm.Model, n_prompt: int, n_decode: int, rounds: int) -> list[Round]:
    """Return the times of each round, after one that does not count."""
    ids = np.random.default_rng(0).integers(0, model.n_vocab, n_prompt).tolist()
    return [_round(model, ids, n_decode) for _ in range(rounds + 1)][1:]


def _round(model: jitllm.Model, ids: list[int], n_decode: int) -> Round:
    clock = DeviceClock(model.engine.backend.device.driver)  # type: ignore[attr-defined]
    with model.sequence() as sequence:
        start = time.perf_counter()
        sequence.append(ids)
        prompt = time.perf_counter() - start
        start = time.perf_counter()
        sequence.generate(max_tokens=n_decode, temperature=0, ignore_eos=True)
        decode = time.perf_counter() - start
    with model.sequence(ids) as sequence, clock.running():
        sequence.generate(max_tokens=n_decode, temperature=0, ignore_eos=True)
    return Round(prompt, decode, clock.seconds)


def line(path: Path, options: argparse.Namespace, bandwidth: float) -> str:
    """Measure a model; returns its row of the table."""
    with jitllm.load(path, device="cuda", progress=False) as model:
        found = measure(model, options.prompt, options.decode, options.rounds)
    prompt, decode, busy = (
        statistics.median(getattr(one, name) for one in found)
        for name in ("prompt", "decode", "busy")
    )
    speeds = [options.decode / one.decode for one in found]
    read = bytes_per_token(path) * options.decode / decode
    waits = max(0.0, 1 - busy / decode)
    return (
        f"{path.name}: prompt {options.prompt / prompt:.0f} t/s, "
        f"decode {options.decode / decode:.0f} t/s ({min(speeds):.0f} to {max(speeds):.0f}), "
        f"{read / 1e9:.1f} GB/s of weights ({read / bandwidth:.0%} of copying), "
        f"device waits {waits:.0%}"
    )


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, help="paths of .gguf files")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--decode", type=int, default=128, help="tokens after it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--copy-bytes", type=int, default=1 << 30)
    options = parser.parse_args()
    device = open_device()
    bandwidth = copy_bandwidth(device.driver, options.copy_bytes, options.rounds)
    print(f"{device.name}: copies {bandwidth / 1e9:.0f} GB/s, read and written")
    device.close()
    for path in options.models:
        print(line(path, options, bandwidth), flush=True)


if __name__ == "__main__":
    main()
