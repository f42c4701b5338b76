"""What each mixture of tensor types costs in quality: KL divergence from the same model in F16.

`python bench/divergence.py model-f16.gguf --text wiki.test.raw --out divergence.csv`. All mixtures
get one importance matrix, measured on the chunks behind those that are scored.
"""

import argparse
import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jitllm
from jitllm.llm.evaluate_divergence import KLDivergence, kl_divergence
from jitllm.llm.imatrix import measure
from jitllm.llm.quantize import ftypes

_HEAD = ("ftype", "bits per weight", "perplexity", "ratio", "KLD", "KLD 99 %", "same top p")
_MEASURED_CHUNKS = 32


def main() -> None:
    """Print a row per mixture, most bits first; write them as CSV too if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="GGUF, F16 or F32")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--chunks", type=int, default=16)
    parser.add_argument("--n-ctx", type=int, default=512)
    parser.add_argument("--ftypes", nargs="*", default=[*ftypes.names()])
    parser.add_argument("--out", type=Path, help="a CSV file")
    options = parser.parse_args()
    rows = sorted(_rows(options), key=lambda row: -float(row[1]))
    print(f"| {' | '.join(_HEAD)} |\n|---|{'--:|' * (len(_HEAD) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    if options.out:
        with options.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([_HEAD, *rows])


def _rows(options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    text = options.text.read_bytes().decode("utf-8")
    n_ctx, n_chunks = options.n_ctx, options.chunks
    with (
        tempfile.TemporaryDirectory() as folder,
        jitllm.load(options.model, n_ctx=n_ctx) as base,
    ):
        importance = measure(
            base, text, n_ctx=n_ctx, n_chunks=_MEASURED_CHUNKS, first_chunk=n_chunks
        )
        for ftype in options.ftypes:
            path = Path(folder, f"{ftype}.gguf")
            done = jitllm.quantize(options.model, path, ftype, imatrix=importance, progress=False)
            bits = 8 * done.nbytes / base.identity.n_parameters
            with jitllm.load(path, n_ctx=n_ctx, progress=False) as model:
                found = kl_divergence(model, base, text, n_ctx=n_ctx, n_chunks=n_chunks)
            path.unlink()
            row = _row(ftype, bits, found)
            print(*row, flush=True)
            yield row


def _row(ftype: str, bits: float, found: KLDivergence) -> tuple[str, ...]:
    return (
        ftype,
        f"{bits:.2f}",
        f"{found.perplexity.value:.4f}",
        f"{found.ratio.value:.4f}",
        f"{found.kld.value:.5f}",
        f"{found.kld_percentiles[99.0]:.4f}",
        f"{100 * found.same_top_p.value:.1f} %",
    )


if __name__ == "__main__":
    main()
