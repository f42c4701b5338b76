"""`jitllm tokenize`: the token ids of a text."""

import json
import sys

import click

from jitllm.llm.commands._options import ModelCommand, json_option, verbosity


@click.command(cls=ModelCommand)
@click.argument("text", required=False)
@click.option("-p", "--prompt", help="The text, in llama.cpp's spelling.")
@click.option("--ids", is_flag=True, help="Print the ids alone, as a list.")
@click.option("--no-bos", is_flag=True, help="Do not add the tokens of beginning and end.")
@click.option("--no-parse-special", is_flag=True, help="Read <|...|> as plain text.")
@json_option
@verbosity
def command(
    ref: str,
    text: str | None,
    prompt: str | None,
    ids: bool,
    no_bos: bool,
    no_parse_special: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Print the tokens of a text.

    TEXT is read from stdin if it is missing or "-".
    """
    from jitllm.llm.api import load_tokenizer

    text = prompt if prompt is not None else text
    if text is None and sys.stdin.isatty():
        raise click.UsageError("give a TEXT, or one on stdin")
    if text is None or text == "-":
        text = sys.stdin.read()
    tokenizer = load_tokenizer(ref)
    tokens = tokenizer.encode(text, add_special=not no_bos, parse_special=not no_parse_special)
    if ids:
        click.echo(json.dumps(tokens))
        return
    pieces = [tokenizer.decode([token], at_start=False) for token in tokens]
    if as_json:
        rows = [{"id": i, "piece": piece} for i, piece in zip(tokens, pieces, strict=True)]
        click.echo(json.dumps(rows))
        return
    for token, piece in zip(tokens, pieces, strict=True):
        click.echo(f"{token:6d} -> {piece!r}")
