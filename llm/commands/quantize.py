"""`jitllm quantize`: a model file with smaller weights."""

from typing import TYPE_CHECKING, Any

import click

from jitllm.llm.commands._options import ModelCommand, verbosity

if TYPE_CHECKING:
    from jitllm.llm.quantize.api import Quantized

_HELP = "Type for matrices whose name the regular expression matches; may be repeated."


@click.command(cls=ModelCommand)
@click.argument("target", type=click.Path(dir_okay=False))
@click.argument("ftype")
@click.option("--tensor-type", "overrides", multiple=True, metavar="REGEX=TYPE", help=_HELP)
@click.option("--imatrix", type=click.Path(), help="Importance of columns, in GGUF.")
@click.option("--requantize", "--allow-requantize", "requantize", is_flag=True,
              help="Also quantize what is quantized already.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="List what would be done; write nothing.")
@verbosity
def command(ref: str, target: str, ftype: str, overrides: tuple[str, ...], **options: Any) -> None:
    """Write a copy of a model to TARGET, its weights as FTYPE, such as Q4_K_M, says."""
    from jitllm.llm.commands._facts import size_text
    from jitllm.llm.quantize.api import quantize

    result = quantize(
        ref, target, ftype, overrides=_pairs(overrides), imatrix=options["imatrix"],
        requantize=options["requantize"], dry_run=options["dry_run"],
        progress=not options["quiet"],
    )  # fmt: skip
    if result.path is None:
        _list(result)
    before, after = size_text(result.source_nbytes), size_text(result.nbytes)
    click.echo(f"{result.path or 'nothing written'}: {before} -> {after} ({result.ftype})")


def _pairs(overrides: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for override in overrides:
        pattern, equals, type_name = override.rpartition("=")
        if not equals or not pattern:
            raise click.UsageError(f"expected --tensor-type REGEX=TYPE, got {override!r}")
        pairs[pattern] = type_name
    return pairs


def _list(result: "Quantized") -> None:
    for step in result.tensors:
        shape = " x ".join(str(n) for n in step.shape)
        click.echo(f"{step.name:<40} {shape:<20} {step.source_type:<8} {step.type_name}")
