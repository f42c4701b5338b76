"""What devices are here, and why others cannot be used."""

from dataclasses import dataclass

from jitllm import backends
from jitllm.backends.base import BackendUnavailable, DeviceMemory


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
    memory : DeviceMemory or None
        Its bytes; None where it does not tell, or has the host's.
    """

    name: str
    is_usable: bool
    text: str
    memory: DeviceMemory | None = None


def found(name: str) -> DeviceInfo:
    """Open a backend, and close it again."""
    try:
        backend = backends.open_backend(name)
    except BackendUnavailable as error:
        return DeviceInfo(name, False, str(error))
    try:
        return DeviceInfo(name, True, backend.description, backend.device_memory())
    finally:
        backend.close()
