"""`jitllm inspect`: metadata and tensors of a model file, its weights left alone."""

import json
from typing import TYPE_CHECKING, Any

import click

from jitllm.llm.commands._facts import ModelFacts, size_text
from jitllm.llm.commands._options import ModelCommand, json_option, verbosity

if TYPE_CHECKING:
    from jitllm.llm.loaders.gguf import GGUFFile

_SHOWN_ITEMS = 6
_SHOWN_CHARS = 100


@click.command(cls=ModelCommand)
@click.option("--tensors", is_flag=True, help="List every tensor.")
@json_option
@verbosity
def command(ref: str, tensors: bool, as_json: bool, quiet: bool) -> None:
    """Show metadata, tensor types and sizes of a model."""
    from jitllm.llm.loaders.gguf import GGUFFile
    from jitllm.llm.loaders.sources import resolve

    with GGUFFile(resolve(ref, progress=not quiet)) as file:
        facts = ModelFacts.of(file)
        if as_json:
            click.echo(json.dumps(_as_dict(file, facts), indent=2))
            return
        for line in [*_summary(file, facts), "", *_metadata(file)]:
            click.echo(line)
        if tensors:
            click.echo()
            for info in file.tensors.values():
                shape = " x ".join(str(n) for n in info.shape)
                click.echo(f"{info.name:<40} {info.type_name:<8} {shape:<20} {info.nbytes}")


def _summary(file: "GGUFFile", facts: ModelFacts) -> list[str]:
    lines = [f"{'file':<14}{path}" for path in facts.paths]
    lines += [
        f"{'model':<14}{facts.name or '(no name)'} ({facts.label})",
        f"{'GGUF version':<14}{file.version}",
        f"{'size':<14}{size_text(facts.n_bytes)}",
        f"{'parameters':<14}{facts.n_params:,}",
        f"{'tensors':<14}{len(file.tensors)}",
    ]
    for total in facts.types:
        share = 100 * total.n_bytes / max(1, facts.n_bytes)
        lines.append(
            f"  {total.type_name:<12}{total.n_tensors:>5} tensors {total.n_params:>14,} weights"
            f" {size_text(total.n_bytes):>12} {share:5.1f} %"
        )
    return lines


def _metadata(file: "GGUFFile") -> list[str]:
    return [f"{key:<44} {_shown(value)}" for key, value in file.metadata.items()]


def _shown(value: Any) -> str:
    if not hasattr(value, "tolist"):
        text = repr(value)
        cut = len(text) > _SHOWN_CHARS
        return f"{text[:_SHOWN_CHARS]}... ({len(value)} characters)" if cut else text
    items = ", ".join(repr(item)[:24] for item in _plain(value[:_SHOWN_ITEMS]))
    return f"{len(value)} x [{items}{', ...' if len(value) > _SHOWN_ITEMS else ''}]"


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _as_dict(file: "GGUFFile", facts: ModelFacts) -> dict[str, Any]:
    return {
        "paths": [str(path) for path in facts.paths],
        "version": file.version,
        "architecture": facts.architecture,
        "name": facts.name,
        "n_params": facts.n_params,
        "n_bytes": facts.n_bytes,
        "types": {t.type_name: {"n_tensors": t.n_tensors, "n_params": t.n_params,
                                "n_bytes": t.n_bytes} for t in facts.types},
        "metadata": {k: _plain(v) for k, v in file.metadata.items()},
        "tensors": [{"name": t.name, "type": t.type_name, "shape": list(t.shape),
                     "n_bytes": t.nbytes} for t in file.tensors.values()],
    }  # fmt: skip
