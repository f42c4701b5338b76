"""`jitllm lora`: a model file with LoRA adapters in it."""

import click

from jitllm.llm.commands._adapters import Adapters, adapter_options
from jitllm.llm.commands._options import ModelCommand, verbosity


@click.command(cls=ModelCommand)
@click.argument("target", type=click.Path(dir_okay=False))
@adapter_options
@click.option("--keep-types", is_flag=True, help="Quantize into the model's types again.")
@verbosity
def command(ref: str, target: str, adapters: Adapters, keep_types: bool, quiet: bool) -> None:
    """Write a copy of a model to TARGET with LoRA adapters in its matrices.

    Matrices that change become F16, or stay F32; `jitllm quantize` makes them smaller.
    """
    from jitllm.llm.lora_merge import merge

    if not adapters:
        raise click.UsageError("give adapters with --lora or --lora-scaled")
    path = merge(ref, target, adapters, keep_types=keep_types, progress=not quiet)
    click.echo(f"{path}: {len(adapters)} adapters merged")
