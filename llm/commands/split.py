"""`jitllm split`: a model file in several, or several in one."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from jitllm.llm.commands._options import verbosity

if TYPE_CHECKING:
    from jitllm.llm.loaders.split import Part


@click.command()
@click.argument("source", type=click.Path(dir_okay=False))
@click.argument("target", type=click.Path())
@click.option("--split", "split_", is_flag=True, help="Cut SOURCE; so it is without --merge too.")
@click.option("--merge", "merge_", is_flag=True, help="Make one file of several.")
@click.option("--max-tensors", "--split-max-tensors", "max_tensors", type=click.IntRange(1),
              help="Most tensors in a file.  [default: 128]")  # fmt: skip
@click.option("--max-size", "--split-max-size", "max_size", metavar="N(M|G)",
              help="Most bytes of tensors in a file, in place of --max-tensors.")  # fmt: skip
@click.option("--no-tensor-first-split", is_flag=True, help="Only metadata in the first file.")
@click.option("--dry-run", is_flag=True, help="List what would be done; write nothing.")
@verbosity
def command(
    source: str,
    target: str,
    split_: bool,
    merge_: bool,
    max_tensors: int | None,
    max_size: str | None,
    no_tensor_first_split: bool,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Cut the model file SOURCE into TARGET-00001-of-0000N.gguf and so on.

    With --merge SOURCE is the first of several files, and TARGET the one to write.
    """
    from jitllm.llm.loaders.split import merge, split

    if merge_ and (split_ or max_tensors or max_size or no_tensor_first_split):
        raise click.UsageError("--merge goes with --dry-run only")
    if max_tensors and max_size:
        raise click.UsageError("give --max-tensors or --max-size, not both")
    if merge_:
        if Path(target).exists():
            raise click.UsageError(f"there is a file {target} already; choose another name")
        _list([merge(source, target, dry_run=dry_run, progress=not quiet)])
        return
    _list(
        split(
            source, target, max_tensors=max_tensors, max_size=max_size,
            no_tensor_first=no_tensor_first_split, dry_run=dry_run, progress=not quiet,
        )
    )  # fmt: skip


def _list(parts: "tuple[Part, ...] | list[Part]") -> None:
    from jitllm.llm.commands._facts import size_text

    for part in parts:
        click.echo(f"{part.path}: {len(part.tensors)} tensors, {size_text(part.nbytes)}")
