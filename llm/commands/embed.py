"""`jitllm embed`: vectors of texts."""

import json
import sys

import click

from jitllm.llm.commands._options import ModelCommand, ModelOptions, model_options


@click.command(cls=ModelCommand)
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option(
    "--pooling",
    type=click.Choice(["mean", "cls", "last"]),
    help="What of a text's tokens makes its vector; by default what the file says.",
)
@click.option("--no-normalize", is_flag=True, help="Keep the length that a vector has.")
@model_options
def command(
    options: ModelOptions, texts: tuple[str, ...], pooling: str | None, no_normalize: bool
) -> None:  # fmt: skip
    """Print the vectors of texts, each as a JSON list on a line of its own.

    Without TEXT, every line of stdin is one.
    """
    if not texts and sys.stdin.isatty():
        raise click.UsageError("give a TEXT, or some on stdin, one on each line")
    each = list(texts) or sys.stdin.read().splitlines()
    with options.load() as model:
        vectors = model.embed(each, pooling=pooling, normalize=not no_normalize)
    for vector in vectors.tolist():
        click.echo(json.dumps(vector))
