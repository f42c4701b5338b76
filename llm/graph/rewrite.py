"""Changes of a built graph."""

from dataclasses import replace
from typing import Any

from jitllm.backends.ir import Node

EXPERTS = ("experts", "open_experts")
"""Operations that `open_experts` takes."""

_NONE = (None, None, None)


def open_experts(node: Node, **attrs: tuple[Any, ...]) -> Node:
    """Return a node of experts as one that can be watched and added to.

    Parameters
    ----------
    node : Node
        Of an operation of `EXPERTS`.
    **attrs
        `squares` or `adapters`: three each, as `backends/cpu_ops/open_experts.py` says.
    """
    attributes = {"squares": _NONE, "adapters": _NONE, **node.attrs, **attrs}
    return replace(node, op="open_experts", attrs=attributes)
