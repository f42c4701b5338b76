"""Perplexity of real models against another program's numbers.

`python bench/perplexity.py --text wiki.test.raw model.gguf=17.25 other.gguf=9.1`, each number being
what `llama-perplexity -m model.gguf -f wiki.test.raw -c 512 --chunks 16` prints.
"""

import argparse
from pathlib import Path

import jitllm


def main() -> None:
    """Print a row per model; exit code 1 if a ratio is off by more than the tolerance."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="PATH=REFERENCE")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--chunks", type=int, default=16)
    parser.add_argument("--n-ctx", type=int, default=512)
    parser.add_argument("--precision", choices=("fast", "exact"), default="fast")
    parser.add_argument("--tolerance", type=float, default=0.01, help="of the ratio")
    options = parser.parse_args()
    text = options.text.read_bytes().decode("utf-8")
    print("| model | jitllm | reference | ratio |\n|---|--:|--:|--:|", flush=True)
    worst = 0.0
    for pair in options.models:
        path, _, reference = pair.rpartition("=")
        expected = float(reference)
        with jitllm.load(path, n_ctx=options.n_ctx, precision=options.precision) as model:
            ours = model.perplexity(text, n_ctx=options.n_ctx, n_chunks=options.chunks)
        ratio = float(ours) / expected
        worst = max(worst, abs(ratio - 1))
        print(f"| {Path(path).stem} | {ours} | {expected:.4f} | {ratio:.4f} |", flush=True)
    if worst > options.tolerance:
        raise SystemExit(f"a ratio is off by {worst:.4f}, more than {options.tolerance}")


if __name__ == "__main__":
    main()
