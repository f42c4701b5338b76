"""`stream_read` by its twin."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import streams as reference_streams


def run(run: Any, node: Node, streams: Floats, gates: Floats) -> Floats:
    """Return the sum of the streams."""
    return reference_streams.stream_read(streams, gates, **node.attrs)
