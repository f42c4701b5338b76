"""What devices are here, and why others cannot be used."""

from dataclasses import dataclass

from jitllm import backends
from jitllm.backends.base import BackendUnavailable


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A backend's device.

    Attributes
    ----------
    name : str
        As `jitllm.load` takes it.
    is_usable : bool
    text : str
        What it is, or why it cannot be used.
    """

    name: str
    is_usable: bool
    text: str


def found(name: str) -> DeviceInfo:
    """Open a backend, and close it again."""
    try:
        backend = backends.open_backend(name)
    except BackendUnavailable as error:
        return DeviceInfo(name, False, str(error))
    try:
        return DeviceInfo(name, True, backend.description)
    finally:
        backend.close()
