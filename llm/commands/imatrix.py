"""`jitllm imatrix`: which columns of a model's matrices matter, for quantizing it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jitllm.llm.commands._options import ModelCommand, ModelOptions, model_options

if TYPE_CHECKING:
    from jitllm.llm.quantize.importance import Importance


class _Command(ModelCommand):
    """REF may be missing: matrices are added up without a model."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params[0].required = False


@click.command(cls=_Command)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("-f", "--file", "file_option", type=click.Path(path_type=Path),
              help="The text, in llama.cpp's spelling.")  # fmt: skip
@click.option("-o", "--output", "--output-file", "output", default="imatrix.gguf",
              show_default=True, type=click.Path(dir_okay=False, path_type=Path),
              help="File to write; the older format if its name ends in .dat.")  # fmt: skip
@click.option("--in-file", "in_files", multiple=True, type=click.Path(),
              help="Matrix to add to what is measured; may be repeated.")  # fmt: skip
@click.option("--chunks", type=click.IntRange(1), help="Most chunks to read; by default all.")
@click.option("--chunk", "--from-chunk", "first_chunk", type=click.IntRange(0), default=0,
              help="Chunks to leave out at the beginning.")  # fmt: skip
@click.option("--process-output", is_flag=True, help="Measure output.weight too.")
@click.option("--parse-special", is_flag=True, help="Read names of special tokens as tokens.")
@click.option("-ofreq", "--output-frequency", "every", type=click.IntRange(1), default=10,
              show_default=True, help="Write what there is after so many chunks.")  # fmt: skip
@click.option("--show-statistics", "shows", is_flag=True,
              help="Print numbers of each tensor of the one --in-file; write nothing.")  # fmt: skip
@model_options
def command(
    options: ModelOptions,
    file: Path | None,
    file_option: Path | None,
    output: Path,
    in_files: tuple[str, ...],
    every: int,
    shows: bool,
    **settings: Any,
) -> None:
    """Measure the importance of columns on the text in FILE, for `jitllm quantize --imatrix`.

    The text is read in chunks of --n-ctx tokens (512 by default). Without REF and FILE the
    matrices of --in-file are added up.
    """
    from jitllm.llm.quantize.importance import CHUNK_SIZE, combine, load_importance

    text, n_ctx = file or file_option, options.n_ctx or CHUNK_SIZE
    if bool(options.ref) != bool(text) or not (text or in_files):
        raise click.UsageError("give REF and the FILE with the text, or only --in-file")
    before = [load_importance(path, n_ctx) for path in in_files]
    if shows:
        if text or len(before) != 1:
            raise click.UsageError("give --show-statistics one --in-file and nothing to measure")
        _show(before[0])
        return
    if text is None:
        result = combine(before)
    else:
        measured = _measure(options, text, n_ctx, _saver(output, before, every), settings)
        result = combine([*before, measured])
    result.save(output)
    click.echo(f"{output}: {len(result.squares)} tensors, {result.n_chunks} chunks")


def _measure(
    options: ModelOptions,
    text: Path,
    n_ctx: int,
    each: "Callable[[Importance], None]",
    settings: dict[str, Any],
) -> "Importance":
    from jitllm.llm.imatrix import measure

    content = text.read_bytes().decode("utf-8")  # as it is: no translation of line ends
    with options.load() as model:
        return measure(
            model, content, n_ctx=n_ctx, n_chunks=settings.pop("chunks"), dataset=str(text),
            progress=not options.quiet, each=each, **settings,
        )  # fmt: skip


def _saver(output: Path, before: "list[Importance]", every: int) -> "Callable[[Importance], None]":
    from jitllm.llm.quantize.importance import combine

    def save(measured: "Importance") -> None:
        if measured.n_chunks % every == 0:
            combine([*before, measured]).save(output)

    return save


def _show(importance: "Importance") -> None:
    from jitllm.llm.quantize.importance_statistics import TensorStatistics, statistics

    fields = TensorStatistics._fields
    click.echo(f"{fields[0]:<36}{fields[1]:>8}" + "".join(f"{name:>12}" for name in fields[2:]))
    for one in statistics(importance):
        numbers = "".join(f"{number:>12.4g}" for number in one[2:])
        click.echo(f"{one.name:<36}{one.n:>8}{numbers}")
