"""`jitllm quantize`: a model file with smaller weights."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jitllm.llm.commands._options import ModelCommand, verbosity

if TYPE_CHECKING:
    from jitllm.llm.quantize.api import Quantized, Scalar
    from jitllm.llm.quantize.importance import Importance

_KINDS: "dict[str, Callable[[str], Scalar]]" = {
    "int": lambda text: int(text, 0),
    "float": float,
    "bool": lambda text: {"true": True, "false": False}[text],
    "str": str,
}


@click.command(cls=ModelCommand)
@click.argument("target", type=click.Path(dir_okay=False))
@click.argument("ftype")
@click.option("--tensor-type", "overrides", multiple=True, metavar="REGEX=TYPE",
              help="Type for matrices with such names; may be repeated.")  # fmt: skip
@click.option("--tensor-type-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="File with many such pairs, apart by spaces or lines.")  # fmt: skip
@click.option("--output-tensor-type", "output_type", metavar="TYPE", help="Type of output.weight.")
@click.option("--token-embedding-type", metavar="TYPE", help="Type of the embeddings of tokens.")
@click.option("--leave-output-tensor", "leave_output", is_flag=True, help="Keep output.weight.")
@click.option("--pure", is_flag=True, help="The same type for all matrices.")
@click.option("--imatrix", type=click.Path(),
              help="Importance of columns, from `jitllm imatrix` or llama-imatrix.")  # fmt: skip
@click.option("--include-weights", multiple=True, metavar="NAME",
              help="Importance only for tensors with this in their names; repeatable.")  # fmt: skip
@click.option("--exclude-weights", multiple=True, metavar="NAME",
              help="No importance for tensors with this in their names; repeatable.")  # fmt: skip
@click.option("--prune-layers", default="", metavar="N,N", help="Layers to leave out.")
@click.option("--override-kv", "metadata", multiple=True, metavar="KEY=TYPE:VALUE",
              help="Metadata; TYPE is int, float, bool or str; may be repeated.")  # fmt: skip
@click.option("--requantize", "--allow-requantize", "requantize", is_flag=True,
              help="Also quantize what is quantized already.")  # fmt: skip
@click.option("-t", "--threads", "--n-threads", "n_threads", type=click.IntRange(1),
              help="By default one for each processor.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="List what would be done; write nothing.")
@verbosity
def command(ref: str, target: str, ftype: str, *, overrides: tuple[str, ...],
            tensor_type_file: Path | None, metadata: tuple[str, ...], prune_layers: str,
            imatrix: str | None, include_weights: tuple[str, ...], quiet: bool,
            exclude_weights: tuple[str, ...], **options: Any) -> None:  # fmt: skip
    """Write a copy of a model to TARGET, its weights as FTYPE, such as Q4_K_M, says."""
    from jitllm.llm.commands._facts import size_text
    from jitllm.llm.quantize.api import quantize

    matrix = _importance(imatrix, include_weights, exclude_weights)
    listed = tensor_type_file.read_text("utf-8").split() if tensor_type_file else ()
    result = quantize(
        ref, target, ftype, overrides=_pairs((*overrides, *listed)), metadata=_values(metadata),
        imatrix=matrix, prune_layers=_layers(prune_layers), progress=not quiet, **options,
    )  # fmt: skip
    if result.path is None:
        _list(result)
    before, after = size_text(result.source_nbytes), size_text(result.nbytes)
    click.echo(f"{result.path or 'nothing written'}: {before} -> {after} ({result.ftype})")


def _importance(
    path: str | None, included: tuple[str, ...], excluded: tuple[str, ...]
) -> "Importance | None":
    from jitllm.llm.quantize.importance import load_importance

    if included and excluded or (included or excluded) and not path:
        raise click.UsageError(
            "give --imatrix with --include-weights or --exclude-weights, not with both"
        )
    return load_importance(path).only(included, excluded) if path else None


def _pairs(overrides: Iterable[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for override in overrides:
        pattern, equals, type_name = override.rpartition("=")
        if not equals or not pattern:
            raise click.UsageError(f"expected --tensor-type REGEX=TYPE, got {override!r}")
        pairs.setdefault(pattern, type_name)  # the first counts
    return pairs


def _layers(text: str) -> tuple[int, ...]:
    parts = text.split(",") if text else []
    if not all(part.strip().isdecimal() for part in parts):
        raise click.UsageError(f"expected --prune-layers such as 3,4; got {text!r}")
    return tuple(int(part) for part in parts)


def _values(metadata: tuple[str, ...]) -> "dict[str, Scalar]":
    values = {}
    for each in metadata:
        key, _, typed = each.partition("=")
        kind, colon, text = typed.partition(":")
        try:
            values[key] = _KINDS[kind](text)
        except (KeyError, ValueError):
            colon = ""
        if not colon or not key:
            raise click.UsageError(
                f"expected --override-kv KEY=TYPE:VALUE, TYPE int, float, bool or str; got {each!r}"
            )
    return values


def _list(result: "Quantized") -> None:
    from jitllm.llm.commands._facts import size_text

    for step in result.tensors:
        shape = " x ".join(str(n) for n in step.shape)
        sizes = f"{size_text(step.source_nbytes):>11} -> {size_text(step.nbytes)}"
        click.echo(f"{step.name:<40} {shape:<20} {step.source_type:<8} {step.type_name:<8} {sizes}")
