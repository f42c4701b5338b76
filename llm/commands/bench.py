"""`jitllm bench`: tokens per second, in the columns of llama-bench."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from jitllm.llm.commands._facts import ModelFacts, size_text
from jitllm.llm.commands._options import (
    ModelCommand,
    ModelOptions,
    json_option,
    model_options,
)

if TYPE_CHECKING:
    from jitllm.llm.model import Model

_COLUMNS = ("model", "size", "params", "backend", "threads", "test", "t/s")
_LEFT = ("model", "backend")


@dataclass(frozen=True)
class Case:
    """One test: `n_prompt` tokens at once or `n_gen` one by one, after `depth` tokens."""

    n_prompt: int
    n_gen: int
    depth: int

    @property
    def name(self) -> str:
        """Name of the test, such as `pp512` or `tg64 @ d1024`."""
        test = f"pp{self.n_prompt}" if self.n_prompt else f"tg{self.n_gen}"
        return f"{test} @ d{self.depth}" if self.depth else test

    @property
    def n_tokens(self) -> int:
        """Tokens that are timed."""
        return self.n_prompt or self.n_gen


def _counts(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    try:
        counts = [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"expected counts such as 512 or 128,512; got {value!r}") from None
    if min(counts) < 0:
        raise click.BadParameter(f"expected counts of at least 0; got {value!r}")
    return counts


@click.command(cls=ModelCommand)
@click.option(
    "-p",
    "--n-prompt",
    default="512",
    show_default=True,
    callback=_counts,
    help="Tokens of a prompt; several with commas, 0 for no such test.",
)
@click.option(
    "-n",
    "--n-gen",
    default="64",
    show_default=True,
    callback=_counts,
    help="Tokens to generate; several with commas, 0 for no such test.",
)
@click.option(
    "-d",
    "--n-depth",
    default="0",
    show_default=True,
    callback=_counts,
    help="Tokens that are there before; several with commas.",
)
@click.option("-r", "--repetitions", default=5, show_default=True, type=click.IntRange(1),
              help="How often each test is done; one more goes before.")  # fmt: skip
@json_option
@model_options
def command(
    options: ModelOptions,
    n_prompt: list[int],
    n_gen: list[int],
    n_depth: list[int],
    repetitions: int,
    as_json: bool,
) -> None:
    """Measure tokens per second.

    Tests are named as in llama-bench: pp512 reads a prompt of 512 tokens, tg64 generates 64.
    """
    tests = [(n, 0) for n in n_prompt if n] + [(0, n) for n in n_gen if n]
    cases = [Case(*test, depth) for depth in n_depth for test in tests]
    if not cases:
        raise click.UsageError("give a --n-prompt or a --n-gen above 0")
    facts = ModelFacts.of_ref(options.ref, progress=not options.quiet)
    rows = []
    with options.load() as model:
        for case in cases:
            speeds = measure(model, case, repetitions)
            rows.append(_row(facts, options, _threads(options), case, speeds))
    click.echo(json.dumps(rows, indent=2) if as_json else _table(rows))


def measure(model: "Model", case: Case, repetitions: int) -> list[float]:
    """Return the tokens per second of each repetition, after one that does not count."""
    tokens = random_tokens(model, case.depth + case.n_tokens)
    head, timed = tokens[: case.depth], tokens[case.depth :]
    steps = [timed] if case.n_prompt else [[token] for token in timed]
    return [case.n_tokens / _seconds(model, head, steps) for _ in range(repetitions + 1)][1:]


def _seconds(model: "Model", head: list[int], steps: list[list[int]]) -> float:
    from jitllm.llm.sampling import chain
    from jitllm.llm.state.logits import Need

    with model.sequence(head or None) as sequence:
        if head:
            _ = sequence.logits
        need = Need.of(chain("greedy"))
        start = time.perf_counter()
        for step in steps:
            if len(step) > 1:
                sequence.append(step)
            else:  # as a generation does: the device chooses a token if it can
                sequence.push(step[0])
                sequence.compute_last(need)
        return time.perf_counter() - start


def random_tokens(model: "Model", n: int, seed: int = 0) -> list[int]:
    """Return `n` token ids: the beginning-of-text token if there is one, then random ones."""
    import numpy as np

    bos = model.tokenizer.bos_id if model.tokenizer else None
    tokens = np.random.default_rng(seed).integers(0, model.n_vocab, n).tolist()
    if bos is not None and n:
        tokens[0] = bos
    return [int(token) for token in tokens]


def _threads(options: ModelOptions) -> int:
    from jitllm.backends._cpu.threads import default_threads

    return options.n_threads or default_threads()


def _row(
    facts: ModelFacts, options: ModelOptions, n_threads: int, case: Case, speeds: list[float]
) -> dict[str, Any]:
    return {
        "model_filename": str(facts.paths[0]),
        "model_type": facts.label,
        "model_size": facts.n_bytes,
        "model_n_params": facts.n_params,
        "backends": options.device,
        "n_threads": n_threads,
        "type_k": options.kv_dtype.partition("/")[0],
        "type_v": options.kv_dtype.rpartition("/")[2],
        "precision": options.precision,
        "n_prompt": case.n_prompt,
        "n_gen": case.n_gen,
        "n_depth": case.depth,
        "test": case.name,
        "avg_ts": statistics.mean(speeds),
        "stddev_ts": statistics.stdev(speeds) if len(speeds) > 1 else 0.0,
        "samples_ts": speeds,
    }


def _cells(row: dict[str, Any]) -> list[str]:
    formatters: list[Callable[[dict[str, Any]], str]] = [
        lambda r: str(r["model_type"]),
        lambda r: size_text(r["model_size"]),
        lambda r: f"{r['model_n_params'] / 1e6:.2f} M",
        lambda r: str(r["backends"]),
        lambda r: str(r["n_threads"]),
        lambda r: str(r["test"]),
        lambda r: f"{r['avg_ts']:.2f} ± {r['stddev_ts']:.2f}",
    ]
    return [formatter(row) for formatter in formatters]


def _table(rows: list[dict[str, Any]]) -> str:
    table = [list(_COLUMNS), *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(_COLUMNS))]
    lines = [
        " | ".join(_aligned(*cell) for cell in zip(line, widths, _COLUMNS, strict=True))
        for line in table
    ]
    rules = ["-" * w if c in _LEFT else "-" * (w - 1) + ":"
             for w, c in zip(widths, _COLUMNS, strict=True)]  # fmt: skip
    return "\n".join(f"| {line} |" for line in [lines[0], " | ".join(rules), *lines[1:]])


def _aligned(text: str, width: int, column: str) -> str:
    return text.ljust(width) if column in _LEFT else text.rjust(width)
