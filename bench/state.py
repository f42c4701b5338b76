"""What keeping a sequence costs beside llama.cpp: `python bench/state.py MODEL --llama-python P`.

Save, restore, save after every token, fork; both sides one after the other on the same tokens.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import contest

from jitllm.kernels.folders import cache_root


def measured(name: str, python: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run one side in its own process; returns seconds and bytes by case."""
    script = Path(__file__).with_name("state_contestant.py")
    numbers = (options.threads, options.tokens, options.steps, options.rounds)
    run = subprocess.run(
        [str(python), str(script), name, options.model, *map(str, numbers)],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise SystemExit(f"error: {name} stopped:\n{run.stderr[-2000:]}")
    return dict(json.loads(run.stdout))


def cell(case: dict[str, Any] | None) -> str:
    """Return the median time and the bytes of a case, as a cell of the table."""
    if case is None:
        return ""
    parts = []
    if any(case["seconds"]):
        parts.append(f"{1e6 * statistics.median(case['seconds']):,.0f} us")
    if case["bytes"]:
        parts.append(f"{case['bytes']:,} bytes")
    return ", ".join(parts)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="path of a .gguf file")
    parser.add_argument("--llama-python", type=Path, help="as for compare.py")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--tokens", type=int, default=2000, help="of the sequence")
    parser.add_argument("--steps", type=int, default=20, help="tokens that are saved one by one")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    llama = options.llama_python or contest.llama_python(cache_root() / "bench")
    sides = {
        name: measured(name, python, options)
        for name, python in (("jitllm", Path(sys.executable)), ("llama.cpp", llama))
    }
    print(f"{Path(options.model).stem}, {options.tokens} tokens, medians\n")
    print("| | jitllm | llama.cpp |\n|---|--:|--:|")
    for case in sides["jitllm"]:
        cells = [cell(found.get(case)) for found in sides.values()]
        print(f"| {case} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
