"""Time from the shell to the first token: `python bench/startup.py MODEL`.

The whole process counts. Once with an empty kernel cache, so that everything is compiled, then
several times warm.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time


def seconds(model: str, threads: int, cache: str) -> float:
    """Return how long `jitllm run` of one token takes."""
    command = [sys.executable, "-P", "-m", "jitllm", "run", model, "x", "-n", "1", "-q"]
    start = time.perf_counter()
    subprocess.run(
        [*command, "-t", str(threads)],
        env=os.environ | {"JITLLM_CACHE": cache},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - start


def main() -> None:
    """Print the times of a cold start and of warm ones."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="path of a .gguf file")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        cold = seconds(options.model, options.threads, cache)
        warm = [seconds(options.model, options.threads, cache) for _ in range(options.runs)]
    print(f"empty kernel cache: {cold:.2f} s")
    print(
        f"warm: median {statistics.median(warm):.2f} s, "
        f"{min(warm):.2f} to {max(warm):.2f} s in {options.runs} runs"
    )


if __name__ == "__main__":
    main()
