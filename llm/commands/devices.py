"""`jitllm devices`: what `--device` can name here."""

import json
from dataclasses import asdict

import click

from jitllm.llm.commands._options import json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the devices, and why those that are missing cannot be used."""
    from jitllm import backends

    devices = backends.devices()
    if as_json:
        click.echo(json.dumps([asdict(device) for device in devices], indent=2))
        return
    width = max(len(device.name) for device in devices)
    for device in devices:
        text = device.text if device.is_usable else f"not usable: {device.text}"
        if device.memory:
            free, total = (f"{n / 2**30:.1f}" for n in (device.memory.free, device.memory.total))
            text += f"; {free} of {total} GiB free"
        click.echo(f"{device.name:<{width}}  {text}".rstrip())
