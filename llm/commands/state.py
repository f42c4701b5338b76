"""`jitllm state`: what is in state files, whether it is whole, and how to make them smaller."""

import datetime
import json
from pathlib import Path
from typing import Any

import click

from jitllm.llm.commands._facts import size_text
from jitllm.llm.commands._options import ModelCommand, ModelOptions, json_option, model_options
from jitllm.llm.state_files.checkpoint import Checkpoint
from jitllm.llm.state_files.file import StateFile
from jitllm.llm.state_files.pruning import prune as prune_file

_file = click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))


_target = click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
_which = click.option("--which", help="A checkpoint's number or label; by default the newest.")


@click.group(name="state")
def command() -> None:
    """Saved sequences: list, show, check and shorten state files; to and from llama.cpp."""


@command.command("ls")
@_file
@json_option
def list_checkpoints(file: Path, as_json: bool) -> None:
    """List the checkpoints of a FILE, oldest first."""
    with StateFile(file) as state:
        rows = [_row(found) for found in state.checkpoints]
        damages = [f"byte {damage.offset}: {damage.reason}" for damage in state.damages]
    if as_json:
        click.echo(json.dumps({"checkpoints": rows, "damages": damages}))
        return
    for row in rows:
        parent = "" if row["parent"] is None else f"on {row['parent']}"
        click.echo(
            f"{row['id']:>5} {parent:<9} {row['tokens']:>7} tokens {size_text(row['bytes']):>10}  "
            f"{row['created']}  {row['label']}".rstrip()
        )
    for damage in damages:
        click.echo(f"damaged: {damage}", err=True)


def _row(found: Checkpoint) -> dict[str, Any]:
    when = datetime.datetime.fromtimestamp(found.created, datetime.UTC)
    return {
        "id": found.id,
        "parent": found.parent,
        "label": found.label,
        "tokens": found.n_tokens,
        "bytes": found.nbytes,
        "created": when.strftime("%Y-%m-%d %H:%M:%S"),
    }


@command.command()
@_file
@click.argument("which", required=False)
def show(file: Path, which: str | None) -> None:
    """Print what a checkpoint of a FILE holds: the newest, or WHICH, a number or a label."""
    with StateFile(file) as state:
        found = state.get(_number_or_label(which))
        facts = {
            **_row(found),
            "model": dict(found.model),
            "caches": [
                {"window": c.window, "type": c.kv_dtype, "layers": len(c.layers), "first": c.first}
                for c in found.caches
            ],
            "states": list(found.states),
            "cells": found.n_done,
            "sampler": found.sampler is not None,
            "arrays": {name: entry.nbytes for name, entry in found.record.entries.items()},
        }
    click.echo(json.dumps(facts, indent=2))


def _number_or_label(which: str | None) -> int | str | None:
    return int(which) if which and which.isdigit() else which


@command.command()
@_file
def verify(file: Path) -> None:
    """Read every byte of a FILE; exit code 1 if a checkpoint is damaged."""
    with StateFile(file) as state:
        wrong = state.verify()
        problems = [f"byte {damage.offset}: {damage.reason}" for damage in state.damages]
        problems += [f"checkpoint {number}: {reason}" for number, reason in wrong.items()]
        n_whole = len(state.checkpoints) - len(wrong)
    for problem in problems:
        click.echo(f"damaged: {problem}", err=True)
    click.echo(f"{n_whole} checkpoints are whole")
    if problems:
        raise SystemExit(1)


@command.command()
@_file
@click.option("--keep", multiple=True, type=int, help="A checkpoint's number; may be repeated.")
@click.option("--max-bytes", type=click.IntRange(0), help="Drop the oldest until this is left.")
def prune(file: Path, keep: tuple[int, ...], max_bytes: int | None) -> None:
    """Write a FILE anew with fewer checkpoints, and without those that are damaged."""
    before = file.stat().st_size
    dropped = prune_file(file, keep=keep or None, max_bytes=max_bytes)
    click.echo(
        f"{len(dropped)} checkpoints dropped, {size_text(before)} -> "
        f"{size_text(file.stat().st_size)}"
    )


@command.command("import", cls=ModelCommand)
@_file
@_target
@click.option("--label", default="", help="To find the checkpoint by.")
@click.option("--seq-id", default=0, type=click.IntRange(0), help="Which sequence of a session.")
@model_options
def import_state(options: ModelOptions, file: Path, target: Path, label: str, seq_id: int) -> None:
    """Add a sequence or session FILE of llama.cpp to the state file TARGET."""
    from jitllm.llm.state_files import llama_cpp

    with options.load() as model, llama_cpp.load(model, file, seq_id=seq_id) as sequence:
        saved = sequence.save(target, label=label)
    click.echo(f"{target}: {saved} of {saved.n_tokens} tokens")


@command.command(cls=ModelCommand)
@_file
@_target
@_which
@click.option("--session", is_flag=True, help="Write what llama_state_load_file reads.")
@click.option("--flash-attention/--no-flash-attention", default=True, show_default=True,
              help="Whether the context that will read it uses it.")  # fmt: skip
@model_options
def export(
    options: ModelOptions,
    file: Path,
    target: Path,
    which: str | None,
    *,
    session: bool,
    flash_attention: bool,
) -> None:
    """Write a checkpoint of the state FILE to TARGET, for llama.cpp."""
    from jitllm.llm.state_files import llama_cpp

    with (
        options.load() as model,
        model.load_sequence(file, _number_or_label(which)) as sequence,
    ):
        llama_cpp.save(sequence, target, session=session, flash_attention=flash_attention)
        click.echo(f"{target}: {len(sequence)} tokens")
