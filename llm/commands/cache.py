"""`jitllm cache`: what jitllm keeps on this machine, and how to be rid of it."""

import json
import shutil
import sys
from pathlib import Path

import click

from jitllm.kernels.folders import cache_root
from jitllm.llm.commands._facts import size_text
from jitllm.llm.commands._options import json_option, verbosity

_KINDS = ("kernels", "models")


@click.group(name="cache")
def command() -> None:
    """Compiled kernels and fetched packages. (Hub models are in that library's cache.)"""


@command.command()
def path() -> None:
    """Print the folder of the cache; JITLLM_CACHE sets another one."""
    click.echo(cache_root())


@command.command("ls")
@json_option
@verbosity
def list_entries(as_json: bool, quiet: bool) -> None:
    """List entries: one for each set of kernels (machine and version) and each model."""
    rows = [(name, *_usage(cache_root() / name)) for name in _entries()]
    if as_json:
        keys = ("name", "files", "bytes")
        click.echo(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
        return
    for name, files, n_bytes in rows:
        click.echo(f"{size_text(n_bytes):>12}  {files:>5} files  {name}")
    if not quiet:
        click.echo(f"{size_text(sum(row[2] for row in rows)):>12}  in {cache_root()}", err=True)


@command.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Remove all entries.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@verbosity
def rm(names: tuple[str, ...], everything: bool, yes: bool, quiet: bool) -> None:
    """Remove entries by the NAMES that `ls` prints, or all of a kind: kernels, models."""
    if everything == bool(names):
        raise click.UsageError("give names that `jitllm cache ls` prints, or --all")
    chosen = _entries() if everything else [entry for name in names for entry in _matching(name)]
    freed = sum(_usage(cache_root() / entry)[1] for entry in chosen)
    if chosen and not yes:
        if not sys.stdin.isatty():
            raise click.ClickException("expected --yes, as there is no terminal to ask on")
        question = f"Remove {', '.join(chosen)} ({size_text(freed)})?"
        if not click.confirm(question, err=True):
            raise click.ClickException("nothing removed")
    for entry in chosen:
        shutil.rmtree(cache_root() / entry)
    if not quiet:
        click.echo(f"removed {len(chosen)} entries, {size_text(freed)}", err=True)


def _entries() -> list[str]:
    """Names of all entries: paths of folders below the cache folder."""
    root = cache_root()
    return sorted(
        f"{kind}/{folder.name}"
        for kind in _KINDS
        if (root / kind).is_dir()
        for folder in (root / kind).iterdir()
        if folder.is_dir()
    )


def _matching(name: str) -> list[str]:
    entries = _entries()
    found = [entry for entry in entries if entry == name or entry.split("/")[0] == name]
    if not found and name not in _KINDS:
        raise click.ClickException(
            f"expected one of {', '.join(entries) or '(none)'}; got {name!r}"
        )
    return found


def _usage(folder: Path) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)
