"""`jitllm convert`: a GGUF file from a Hugging Face folder or a checkpoint of llama2.c."""

from typing import TYPE_CHECKING, Any

import click

from jitllm.llm.commands._options import verbosity

if TYPE_CHECKING:
    from jitllm.llm.convert.api import Converted

_OUTTYPES = ("auto", "f32", "f16", "bf16", "q8_0")


@click.command()
@click.argument("folder", type=click.Path(exists=True))
@click.option("-o", "--outfile", type=click.Path(), help="The new file; else one in FOLDER.")
@click.option("--outtype", type=click.Choice(_OUTTYPES), default="auto", show_default=True,
              help="Type of matrices; auto: 16 bits, as they are.")  # fmt: skip
@click.option("--name", "--model-name", "name", help="Name of the model.")
@click.option("--pre", help="How its tokenizer cuts text, if that is not known.")
@click.option("--tokenizer", type=click.Path(), help="Of llama2.c; else tokenizer.bin beside it.")
@click.option("--dry-run", is_flag=True, help="List what would be written; write nothing.")
@verbosity
def command(folder: str, **options: Any) -> None:
    """Write the model in FOLDER as a GGUF file.

    FOLDER has config.json, safetensors and tokenizer files of a Hugging Face model, or is a
    checkpoint of llama2.c.
    """
    from jitllm.llm.commands._facts import size_text
    from jitllm.llm.convert.api import convert

    result = convert(
        folder, options["outfile"], options["outtype"], name=options["name"], pre=options["pre"],
        tokenizer=options["tokenizer"], dry_run=options["dry_run"], progress=not options["quiet"],
    )  # fmt: skip
    if options["dry_run"]:
        _list(result)
    done = "nothing written" if options["dry_run"] else result.path
    what = f"{result.architecture}, {len(result.tensors)} tensors, {size_text(result.nbytes)}"
    click.echo(f"{done}: {what} ({result.outtype})")


def _list(result: "Converted") -> None:
    for tensor in result.tensors:
        shape = " x ".join(str(n) for n in tensor.shape)
        click.echo(f"{tensor.name:<40} {shape:<20} {tensor.type_name}")
