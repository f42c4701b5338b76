"""`jitllm plan`: how many bytes a model would use on each device."""

import json
from collections.abc import Mapping
from typing import Any

import click

from jitllm.llm.commands._options import ModelCommand, json_option, memory_options, verbosity
from jitllm.llm.commands._placing import placing_options
from jitllm.llm.placing import Placing


@click.command(cls=ModelCommand)
@placing_options
@memory_options
@click.option("--n-sequences", "-np", "--parallel", "n_sequences", default=1, show_default=True,
              type=click.IntRange(1), help="Full sequences to count.")  # fmt: skip
@click.option("--budget", multiple=True, metavar="[DEVICE=]BYTES",
              help="Find the longest context for 8G, or with -ngl auto the most layers, in place "
                   "of what is free now.")  # fmt: skip
@click.option("-md", "--model-draft", "draft", help="A second model, loaded with the first.")
@json_option
@verbosity
def command(
    ref: str, placing: dict[str, Any], budget: tuple[str, ...], draft: str | None, as_json: bool,
    quiet: bool, **settings: Any,
) -> None:  # fmt: skip
    """Show the bytes that a model would use, without loading it."""
    from jitllm.llm.plan import plan
    from jitllm.llm.plan_fit import fit

    settings |= {**placing, "progress": not quiet}
    models = [ref, draft] if draft else [ref]
    limits = _limits(budget, placing, is_one=not draft)
    if limits is not None:
        found = fit(models, limits, **settings)
        click.echo(json.dumps(found.as_dict(), indent=2) if as_json else str(found))
        return
    plans = [plan(model, **settings) for model in models]
    if as_json:
        click.echo(json.dumps([each.as_dict() for each in plans], indent=2))
    else:
        click.echo("\n\n".join(map(str, plans)))


def _limits(
    texts: tuple[str, ...], placing: dict[str, Any], *, is_one: bool
) -> str | Mapping[str, str | int] | None:
    """Return what bytes there are, if they matter; models that fill devices share what is free."""
    places = Placing(**placing)
    if not texts:
        from jitllm.llm.plan_auto import free_bytes

        return free_bytes(places) if places.is_auto and not is_one else None
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    if not all("=" in text for text in texts):
        raise click.UsageError(f"expected DEVICE=BYTES for each of several budgets, got {texts}")
    pairs = (text.rpartition("=") for text in texts)
    return {device: size for device, _, size in pairs}
