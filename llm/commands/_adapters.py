"""Options that name LoRA adapters, as llama.cpp spells them."""

import functools
from collections.abc import Callable
from typing import Any

import click

Function = Callable[..., Any]
Adapters = tuple[tuple[str, float], ...]


def adapter_options(function: Function) -> Function:
    """Add --lora and --lora-scaled; the function gets pairs of path and scale as `adapters`."""

    @click.option("--lora", multiple=True, metavar="FILE,...", help="LoRA adapters.")
    @click.option("--lora-scaled", multiple=True, metavar="FILE:SCALE,...",
                  help="LoRA adapters, and how much of each.")  # fmt: skip
    @functools.wraps(function)
    def wrapped(*, lora: tuple[str, ...], lora_scaled: tuple[str, ...], **kwargs: Any) -> Any:
        whole = ((path, 1.0) for text in lora for path in text.split(","))
        scaled = (_scaled(item) for text in lora_scaled for item in text.split(","))
        return function(adapters=(*whole, *scaled), **kwargs)

    return wrapped


def _scaled(text: str) -> tuple[str, float]:
    path, _, number = text.rpartition(":")
    try:
        scale = float(number)
    except ValueError:
        path, scale = "", 0.0
    if not path:
        raise click.UsageError(f"expected --lora-scaled FILE:SCALE, got {text!r}")
    return path, scale
