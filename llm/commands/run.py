"""`jitllm run`: continue a text."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jitllm.llm.commands._options import (
    ModelCommand,
    ModelOptions,
    json_option,
    model_options,
    sampling_options,
)
from jitllm.llm.commands._output import timings_text, write_chunk

if TYPE_CHECKING:
    from jitllm.llm.model import Model
    from jitllm.llm.results import Generation


@click.command(cls=ModelCommand)
@click.argument("prompt", required=False)
@click.option("-p", "--prompt", "prompt_option", help="The prompt, in llama.cpp's spelling.")
@click.option("-f", "--file", type=click.Path(path_type=Path), help="Read the prompt from a file.")
@sampling_options(default_max_tokens=256)
@json_option
@model_options
def command(
    options: ModelOptions,
    prompt: str | None,
    prompt_option: str | None,
    file: Path | None,
    sampling: dict[str, Any],
    as_json: bool,
) -> None:
    """Continue a text.

    Prints what the model adds to PROMPT (stdin if it is missing or "-"). No chat template is
    applied; `jitllm chat` does that.
    """
    text = _prompt([prompt, prompt_option], file)
    with options.load() as model:
        if as_json:
            stream = model.stream(text, **sampling)
            click.echo(json.dumps(_as_dict(stream.finish())))
        else:
            _show(model, text, sampling, options.quiet)


def _show(model: "Model", text: str, sampling: dict[str, Any], quiet: bool) -> None:
    """Write the text while it is generated; an interrupt ends it with what there is."""
    if not quiet:  # on a terminal the text reads on from the prompt
        click.echo(text, err=True, nl=not sys.stdout.isatty())
    with model.stream(text, **sampling) as stream:
        for chunk in stream:
            write_chunk(chunk.text)
    write_chunk("\n")
    if not quiet:
        click.echo(timings_text(stream.result.timings), err=True)


def _prompt(given: list[str | None], file: Path | None) -> str:
    texts = [text for text in given if text is not None]
    if len(texts) + (file is not None) > 1:
        raise click.UsageError("give one prompt: PROMPT, --prompt or --file")
    if file is not None:
        return file.read_text("utf-8")
    if not texts and sys.stdin.isatty():
        raise click.UsageError("give a PROMPT, or one on stdin")
    if texts and texts[0] != "-":
        return texts[0]
    text = sys.stdin.read()
    if not text:
        raise click.UsageError("give a PROMPT: there is none on stdin")
    return text


def _as_dict(result: "Generation") -> dict[str, Any]:
    times = result.timings
    return {
        "text": result.text,
        "finish_reason": result.finish_reason,
        "prompt_tokens": result.usage.prompt_tokens,
        "completion_tokens": result.usage.completion_tokens,
        "prompt_s": times.prompt_s,
        "generation_s": times.generation_s,
        "prompt_tokens_per_s": times.prompt_tokens_per_s,
        "tokens_per_s": times.tokens_per_s,
    }
