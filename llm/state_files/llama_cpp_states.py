"""States of recurrent layers in the order of numbers that llama.cpp's files have.

A layer has two rows there: R, what its convolutions still see of earlier tokens, and S, the state
that decays. Both are float32, and either may be empty.
"""

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jitllm.backends.ir import Graph, Node
from jitllm.llm.errors import UnsupportedArchitecture

Floats = npt.NDArray[np.float32]

_BLOCK = re.compile(r"blk\.([0-9]+)\.")


class State(NamedTuple):
    """One of our states, which lies there with its axes in another order.

    Attributes
    ----------
    number : int
        In the graph.
    shape : tuple of int
        Here.
    axes : tuple of int
        Our axes, in their order there.
    size : int
        Numbers there: those behind are zeros here, which fill up a block.
    """

    number: int
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    size: int

    def there(self, values: Floats) -> Floats:
        """Return our numbers [n] in llama.cpp's order [size]."""
        return values.reshape(self.shape).transpose(self.axes).reshape(-1)[: self.size]

    def here(self, row: Floats) -> Floats:
        """Return llama.cpp's numbers [size] in our order [n]."""
        whole = np.zeros([self.shape[axis] for axis in self.axes], np.float32)
        whole.reshape(-1)[: self.size] = row
        return whole.transpose(np.argsort(self.axes)).reshape(-1)


class LayerStates(NamedTuple):
    """The states that are a layer's rows R and S, in the order in which they follow each other."""

    r: tuple[State, ...]
    s: tuple[State, ...]


def layers_of(graph: Graph) -> list[LayerStates]:
    """Return the states of each recurrent layer, in the order of blocks.

    Raises
    ------
    UnsupportedArchitecture
        If llama.cpp has one of them in another form.
    """
    blocks: dict[int, list[Node]] = {}
    for node in graph.nodes:
        if "state" in node.attrs:
            block = _BLOCK.match(node.name)
            if node.op not in ("causal_conv", *_SCANS) or not block:
                raise UnsupportedArchitecture(
                    f"expected states of convolutions and scans, got {node.name!r} ({node.op}), "
                    "which llama.cpp's files do not have in this form; save with Sequence.save"
                )
            blocks.setdefault(int(block[1]), []).append(node)
    return [
        LayerStates(
            tuple(_convolution(node) for node in nodes if node.op == "causal_conv"),
            tuple(_SCANS[node.op](node) for node in nodes if node.op != "causal_conv"),
        )
        for _, nodes in sorted(blocks.items())
    ]


def _convolution(node: Node) -> State:
    """Here [tokens, columns], there column by column."""
    taps = node.attrs["taps"]
    return _state(node, (len(taps) - 1, taps.shape[1]), (1, 0))


def _selective(node: Node) -> State:
    """Here [blocks of columns, N, 16], there [columns, N]."""
    n, width = node.attrs["a"].shape
    blocks = -(-width // 16)
    return State(node.attrs["state"], (blocks, n, 16), (0, 2, 1), width * n)


def _heads(node: Node) -> State:
    """Here [H, N, P], there [H, P, N]."""
    n_heads, n_groups = node.attrs["n_heads"], node.attrs["n_groups"]
    x, b, *_ = node.inputs
    return _state(node, (n_heads, b.width // n_groups, x.width // n_heads), (0, 2, 1))


def _delta(node: Node) -> State:
    """Here [H, dk, dv], there [H, dv, dk]."""
    heads, dk, dv = (node.attrs[name] for name in ("n_heads", "head_dim", "v_head_dim"))
    return _state(node, (heads, dk, dv), (0, 2, 1))


def _wkv(node: Node) -> State:
    """Here [H, dk, dv]; there too, but RWKV-7's has them the other way round."""
    heads, is_delta = node.attrs["n_heads"], node.attrs["form"] == "delta"
    dk, dv = node.inputs[0].width // heads, node.outputs[0].width // heads
    return _state(node, (heads, dk, dv), (0, 2, 1) if is_delta else (0, 1, 2))


def _state(node: Node, shape: tuple[int, ...], axes: tuple[int, ...]) -> State:
    return State(node.attrs["state"], shape, axes, int(np.prod(shape)))


_SCANS = {"selective_scan": _selective, "ssm_scan": _heads, "delta_net": _delta, "wkv": _wkv}
