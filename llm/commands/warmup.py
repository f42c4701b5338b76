"""`jitllm warmup`: compile ahead of time."""

import time
from typing import TYPE_CHECKING

import click

from jitllm.llm.commands._options import ModelCommand, ModelOptions, model_options

if TYPE_CHECKING:
    from jitllm.llm.model import Model

_PROMPT_TOKENS = 16  # enough for the kernels of many rows; one more token runs those of one


@click.command(cls=ModelCommand)
@model_options
def command(options: ModelOptions) -> None:
    """Compile a model's kernels.

    Later starts then take a fraction of a second.
    """
    from jitllm.kernels import jit
    from jitllm.llm.commands.bench import random_tokens

    compiled: list[str] = []
    stop = jit.on_compile(compiled.append)
    start = time.perf_counter()
    try:
        with options.load() as model:
            _use(model, random_tokens(model, _PROMPT_TOKENS + 1))
    finally:
        stop()
    if not options.quiet:
        seconds = time.perf_counter() - start
        click.echo(f"{len(compiled)} kernels compiled, ready after {seconds:.1f} s", err=True)


def _use(model: "Model", tokens: list[int]) -> None:
    if model.engine.graph.is_encoder:
        model.embed(tokens)
        model.embed(tokens[-1:])
        return
    with model.sequence(tokens[:-1]) as sequence:
        sequence.append(tokens[-1:])
        _ = sequence.logits
