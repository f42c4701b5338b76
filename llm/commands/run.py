"""`jitllm run`: continue a text."""

import json
import sys
import time
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
from jitllm.llm.commands._stream import Times, read_prompt, write_chunks

if TYPE_CHECKING:
    from jitllm.llm.api import Sequence


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
    """Continue PROMPT (stdin if it is missing or "-") and print what the model adds.

    No chat template is applied; `jitllm chat` does that.
    """
    text = _prompt([prompt, prompt_option], file)
    times = Times()
    with options.load() as model, read_prompt(model, text, times) as sequence:
        start = time.perf_counter()
        if as_json:
            result = sequence.generate(**sampling)
            _stop_clock(times, start, sequence)
            answer = {"text": result.text, "finish_reason": result.finish_reason}
            click.echo(json.dumps(answer | times.as_dict()))
            return
        if not options.quiet:  # the text reads on from the prompt
            click.echo(text, err=True, nl=False)
        try:
            write_chunks(sequence.generate(stream=True, **sampling))
        finally:
            _stop_clock(times, start, sequence)
            sys.stdout.write("\n")
            if not options.quiet:
                click.echo(str(times), err=True)


def _prompt(given: list[str | None], file: Path | None) -> str:
    texts = [text for text in given if text is not None]
    if len(texts) + (file is not None) > 1:
        raise click.UsageError("give one prompt: PROMPT, --prompt or --file")
    if file is not None:
        return file.read_text("utf-8")
    return texts[0] if texts and texts[0] != "-" else sys.stdin.read()


def _stop_clock(times: Times, start: float, sequence: "Sequence") -> None:
    times.completion_s = time.perf_counter() - start
    times.completion_tokens = len(sequence) - times.prompt_tokens
