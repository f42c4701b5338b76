"""`jitllm perplexity`: how well a model predicts a text."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from jitllm.llm.commands._options import (
    ModelCommand,
    ModelOptions,
    json_option,
    model_options,
)


@click.command(cls=ModelCommand)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "-f",
    "--file",
    "file_option",
    type=click.Path(path_type=Path),
    help="The text, in llama.cpp's spelling.",
)
@click.option("--chunks", type=click.IntRange(1), help="Most chunks to read; by default all.")
@json_option
@model_options
def command(
    options: ModelOptions,
    file: Path | None,
    file_option: Path | None,
    chunks: int | None,
    as_json: bool,
) -> None:
    """Print how well a model predicts a text.

    That is the perplexity of the text in FILE, in chunks of --n-ctx tokens (512 by default). The
    second half of each chunk counts, as in llama.cpp.
    """
    path = file or file_option
    if path is None:
        raise click.UsageError("give the FILE with the text")
    text = path.read_bytes().decode("utf-8")  # as it is: no translation of line ends
    with options.load() as model:
        result = model.perplexity(
            text, n_ctx=options.n_ctx or 512, n_chunks=chunks, progress=not options.quiet
        )
    click.echo(json.dumps(asdict(result)) if as_json else str(result))


# fmt: skip
