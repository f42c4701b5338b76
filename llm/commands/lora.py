"""`jitllm lora`: a model file with LoRA adapters in it."""

from typing import Any

import click

from jitllm.llm.commands._options import ModelCommand, verbosity


@click.command(cls=ModelCommand)
@click.argument("target", type=click.Path(dir_okay=False))
@click.option("--lora", "whole", multiple=True, type=click.Path(), metavar="FILE",
              help="Adapter; may be repeated.")  # fmt: skip
@click.option("--lora-scaled", "scaled", multiple=True, type=(click.Path(), float),
              metavar="FILE SCALE", help="Adapter and how much of it.")  # fmt: skip
@click.option("--keep-types", is_flag=True, help="Quantize into the model's types again.")
@verbosity
def command(ref: str, target: str, whole: tuple[str, ...], **options: Any) -> None:
    """Write a copy of a model to TARGET with LoRA adapters in its matrices.

    Matrices that change become F16, or stay F32; `jitllm quantize` makes them smaller.
    """
    from jitllm.llm.lora_merge import merge

    adapters = [*((path, 1.0) for path in whole), *options["scaled"]]
    if not adapters:
        raise click.UsageError("give adapters with --lora or --lora-scaled")
    path = merge(ref, target, adapters, keep_types=options["keep_types"],
                 progress=not options["quiet"])  # fmt: skip
    click.echo(f"{path}: {len(adapters)} adapters merged")
