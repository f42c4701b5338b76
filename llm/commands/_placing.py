"""Options that say which devices a model is on, as llama.cpp spells them."""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import click

from jitllm.llm.placing import AUTO

Function = Callable[..., Any]
_NUMBERED = re.compile(r"(cuda|vulkan|metal|mtl)(\d+)")  # llama.cpp's names of devices


def placing_options(function: Function) -> Function:
    """Add --device, -ngl and the like; the function gets `placing`, arguments of `jitllm.load`."""

    @click.option("--device", "-dev", "device", default="cpu", show_default=True,
                  help="Backend to run on, or several with commas.")  # fmt: skip
    @click.option("-ngl", "--gpu-layers", "--n-gpu-layers", "n_gpu_layers",
                  help="Layers on the device, the output being one: a number, all (or -2), or what "
                       "fits: auto (or -1).")  # fmt: skip
    @click.option("-fitt", "--fit-target", "margin", default=1024, show_default=True,
                  type=click.IntRange(0), metavar="MIB",
                  help="MiB of each device that auto leaves free.")  # fmt: skip
    @click.option("-ts", "--tensor-split", "split", help="Proportions of the devices, with commas.")
    @click.option("-ot", "--override-tensor", "overrides", multiple=True, metavar="REGEX=DEVICE",
                  help="Device of the tensors of such names; the first match wins.")  # fmt: skip
    @click.option("-cmoe", "--cpu-moe", is_flag=True, help="Experts' weights stay on the CPU.")
    @click.option("-ncmoe", "--n-cpu-moe", default=0, type=click.IntRange(0),
                  help="Those of the first N layers.")  # fmt: skip
    @click.option("-ncffn", "--n-cpu-ffn", default=0, type=click.IntRange(0),
                  help="Dense feed-forward weights of the first N layers, too.")  # fmt: skip
    @click.option("--kv-offload/--no-kv-offload", "--offload-kv/--no-offload-kv", "-kvo/-nkvo",
                  "offload_kv", default=True, help="Caches are where their layer is.")  # fmt: skip
    @functools.wraps(function)
    def wrapped(
        device: str, n_gpu_layers: str | None, split: str | None, overrides: tuple[str, ...],
        cpu_moe: bool, n_cpu_moe: int, n_cpu_ffn: int, offload_kv: bool, margin: int,
        **kwargs: Any,
    ) -> Any:  # fmt: skip
        devices = [_device(name) for name in device.split(",")]
        placing = {
            "device": devices if len(devices) > 1 else devices[0],
            "n_gpu_layers": _layers(n_gpu_layers),
            "split": [_float(part) for part in re.split("[,/]", split)] if split else None,
            "overrides": [pair for text in overrides for pair in _pairs(text)],
            "cpu_moe": cpu_moe, "n_cpu_moe": n_cpu_moe, "n_cpu_ffn": n_cpu_ffn,
            "offload_kv": offload_kv, "margin": margin << 20,
        }  # fmt: skip
        return function(placing=placing, **kwargs)

    return wrapped


def _device(text: str) -> str:
    """Return our name of a device: llama.cpp's CUDA1 is cuda:1, its none is the CPU."""
    name = text.strip().lower()
    found = _NUMBERED.fullmatch(name)
    kind, number = (found[1].replace("mtl", "metal"), int(found[2])) if found else (name, 0)
    return "cpu" if name == "none" else f"{kind}:{number}" if number else kind


def _layers(text: str | None) -> int | str | None:
    """Read what llama.cpp's command line calls layers: -1 is auto there, where we say all."""
    if text in (None, "all", AUTO):
        return text
    try:
        return AUTO if int(text) == -1 else int(text)
    except ValueError:
        raise click.UsageError(f"expected -ngl as a number, all or auto, got {text!r}") from None


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"expected a number in the split, got {text!r}") from None


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Read REGEX=DEVICE,REGEX=DEVICE; a comma before the "=" is the expression's."""
    begun = ""
    for part in text.split(","):
        begun += part
        left, equals, right = begun.rpartition("=")
        if equals:
            yield left, _device(right)
        begun = "" if equals else f"{begun},"
    if begun:
        raise click.UsageError(f"expected REGEX=DEVICE, got {text!r}")
