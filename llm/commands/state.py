"""`jitllm state`: what is in state files, whether it is whole, and how to make them smaller."""

import datetime
import json
from pathlib import Path
from typing import Any

import click

from jitllm.llm.commands._facts import size_text
from jitllm.llm.commands._options import json_option
from jitllm.llm.state.checkpoint import Checkpoint
from jitllm.llm.state.file import StateFile
from jitllm.llm.state.pruning import prune as prune_file

_file = click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))


@click.group(name="state")
def command() -> None:
    """Saved sequences: list, show, check and shorten state files."""


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
        found = state.get(int(which) if which and which.isdigit() else which)
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
