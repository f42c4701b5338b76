"""Memory a model takes: `python bench/memory.py MODEL`.

The peak of a process that loads a model, reads 512 tokens and generates 16, against a budget of
1.25 times the file, the caches in use and 250 MB; then the growth over rounds of load and close.
"""

import argparse
import gc
import json
import resource
import subprocess
import sys
from pathlib import Path

import machine

import jitllm

ALLOWANCE = 250_000_000
FILE_FACTOR = 1.25
GROWTH_BYTES = 30_000_000  # over all rounds: what the interpreter and the allocator keep


def _use(model: jitllm.Model, n_prompt: int) -> int:
    """Read a prompt and generate; returns the bytes of caches that this took."""
    tokens = [i * 7919 % model.n_vocab for i in range(n_prompt)]
    with model.sequence(tokens) as sequence:
        sequence.generate(max_tokens=16, temperature=0, ignore_eos=True)
        return sequence.nbytes


def measure(path: str, rounds: int) -> dict[str, int | list[int]]:
    """Load, use and close a model `rounds` times in this process; returns bytes."""
    resident, caches = [], 0
    for _ in range(rounds):
        with jitllm.load(path, n_ctx=1024, progress=False) as model:
            caches = _use(model, 512 if rounds == 1 else 16)
        gc.collect()  # also empties the interpreter's lists of objects to use again
        machine.return_free_memory()
        resident.append(machine.resident_bytes())
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"peak": peak, "caches": caches, "resident": resident}


def in_child(path: str, rounds: int) -> dict[str, int | list[int]]:
    """Run `measure` in a fresh process."""
    command = [sys.executable, __file__, path, "--child", str(rounds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    """Print peak and growth; exit code 1 if one is above its budget."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="path of a .gguf file")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.model, options.child)))
        return
    once, many = in_child(options.model, 1), in_child(options.model, options.rounds)
    size, resident = Path(options.model).stat().st_size, many["resident"]
    assert isinstance(once["peak"], int) and isinstance(once["caches"], int)
    assert isinstance(resident, list)
    budget = FILE_FACTOR * size + once["caches"] + ALLOWANCE
    growth = resident[-1] - resident[1]
    print(f"file {size / 1e6:.0f} MB, caches in use {once['caches'] / 1e6:.0f} MB")
    print(f"peak {once['peak'] / 1e6:.0f} MB of {budget / 1e6:.0f} MB")
    shown = ", ".join(f"{resident[i] / 1e6:.0f}" for i in (0, 1, -1))
    print(f"resident after close, rounds 1, 2 and {len(resident)}: {shown} MB")
    print(f"growth from round 2: {growth / 1e6:.1f} MB of {GROWTH_BYTES / 1e6:.0f} MB")
    if once["peak"] > budget or growth > GROWTH_BYTES:
        raise SystemExit("above budget")


if __name__ == "__main__":
    main()
