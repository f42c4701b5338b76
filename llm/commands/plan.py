"""`jitllm plan`: how many bytes a model would use on each device."""

import json
from typing import Any

import click

from jitllm.llm.commands._options import ModelCommand, json_option, memory_options, verbosity


@click.command(cls=ModelCommand)
@click.option("--device", "-dev", "device", default="cpu", show_default=True,
              help="Backend to plan for, or several with commas.")  # fmt: skip
@memory_options
@click.option("-ngl", "--gpu-layers", "--n-gpu-layers", "n_gpu_layers",
              help="Layers on the device, the output being one: a number, all, or auto for as many "
                   "as --budget allows.")  # fmt: skip
@click.option("--n-sequences", "-np", "--parallel", "n_sequences", default=1, show_default=True,
              type=click.IntRange(1), help="Full sequences to count.")  # fmt: skip
@click.option("-ts", "--tensor-split", "split", help="Proportions of the devices, with commas.")
@click.option("-ot", "--override-tensor", "overrides", multiple=True, metavar="REGEX=DEVICE",
              help="Device of the tensors of such names; the first match wins.")  # fmt: skip
@click.option("-cmoe", "--cpu-moe", is_flag=True, help="Experts' weights stay on the CPU.")
@click.option("-ncmoe", "--n-cpu-moe", default=0, type=click.IntRange(0),
              help="Those of the first N layers.")  # fmt: skip
@click.option("-ncffn", "--n-cpu-ffn", default=0, type=click.IntRange(0),
              help="Dense feed-forward weights of the first N layers, too.")  # fmt: skip
@click.option("--offload-kv/--no-offload-kv", "-kvo/-nkvo", default=True,
              help="Caches are where their layer is.")  # fmt: skip
@click.option("--budget", multiple=True, metavar="[DEVICE=]BYTES",
              help="Find the longest context for 8G, or with -ngl auto the most "
                   "layers.")  # fmt: skip
@click.option("-md", "--model-draft", "draft", help="A second model, loaded with the first.")
@json_option
@verbosity
def command(
    ref: str, device: str, split: str | None, overrides: tuple[str, ...], budget: tuple[str, ...],
    draft: str | None, n_gpu_layers: str | None, as_json: bool, quiet: bool, **settings: Any,
) -> None:  # fmt: skip
    """Show the bytes that a model would use, without loading it."""
    from jitllm.llm.plan import plan
    from jitllm.llm.plan_fit import AUTO, fit

    settings |= {
        "device": device.split(",") if "," in device else device,
        "split": [_float(part) for part in split.split(",")] if split else None,
        "overrides": [_pair(text, "REGEX=DEVICE") for text in overrides],
        "n_gpu_layers": _layers(n_gpu_layers),
        "progress": not quiet,
    }
    models = [ref, draft] if draft else [ref]
    if budget:
        found = fit(models, _budget(budget), **settings)
        click.echo(json.dumps(found.as_dict(), indent=2) if as_json else str(found))
        return
    if n_gpu_layers == AUTO:
        raise click.UsageError("-ngl auto needs --budget")
    plans = [plan(model, **settings) for model in models]
    if as_json:
        click.echo(json.dumps([each.as_dict() for each in plans], indent=2))
    else:
        click.echo("\n\n".join(map(str, plans)))


def _layers(text: str | None) -> int | str | None:
    if text in (None, "all", "auto"):
        return text
    try:
        return int(text)
    except ValueError:
        raise click.UsageError(f"expected -ngl as a number, all or auto, got {text!r}") from None


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"expected a number in the split, got {text!r}") from None


def _pair(text: str, form: str) -> tuple[str, str]:
    left, equals, right = text.rpartition("=")
    if not equals:
        raise click.UsageError(f"expected {form}, got {text!r}")
    return left, right


def _budget(texts: tuple[str, ...]) -> str | dict[str, str]:
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    return dict(_pair(text, "DEVICE=BYTES") for text in texts)
