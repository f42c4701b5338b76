"""Logits of tiny models against recorded ones, and graphs with one detail that is wrong."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from driver import Runner, nmse
from numpy.typing import NDArray

from jitllm.backends.ir import Graph, Node

MAX_NMSE = 1e-6  # what the conformance set asks of float32 weights and caches
WRONG_NMSE = 1e-5  # any wrong detail is above
N_SINGLE = 8
"""Tokens at the end of a recorded text that ran one by one; those before were one batch."""

Files = Callable[[str], Path]
Edit = Callable[[Graph], Graph]


def written_once(folder: Path, write: Callable[[str, Path], Path]) -> Files:
    """Return a function that gives the path of a model, which `write` makes when first asked."""
    done = dict[str, Path]()

    def path(name: str) -> Path:
        if name not in done:
            done[name] = write(name, folder / f"{name}.gguf")
        return done[name]

    return path


def last_logits(
    path: Path, tokens: NDArray[np.int32], device: str = "reference", **options: Any
) -> NDArray[np.float32]:
    """Logits (16, V) of the last 16 tokens, run as they were for the recorded ones."""
    first = len(tokens) - N_SINGLE
    with Runner(path, device, **{"max_tokens": len(tokens)} | options) as runner:
        runs = [runner.forward(tokens[:first])]
        runs += [runner.forward(tokens[i : i + 1], i) for i in range(first, len(tokens))]
    return np.concatenate(runs)[-16:]


def logits_error(
    path: Path,
    golden: tuple[NDArray[np.int32], NDArray[np.float32]],
    device: str = "reference",
    **options: Any,
) -> float:
    """NMSE of the last 16 logits; `golden` are tokens and what they should be."""
    tokens, expected = golden
    return nmse(last_logits(path, tokens, device, **options), expected)


def change(op: str, at: str = "", **attrs: Any) -> Edit:
    """Return an edit that sets attributes of the nodes of one operation, in the encoder too.

    Of those whose names match the regular expression `at`. A function as the value of an attribute
    makes the new one of the old one.
    """

    def changed(node: Node) -> Node:
        new = {k: v(node.attrs[k]) if callable(v) else v for k, v in attrs.items()}
        return dataclasses.replace(node, attrs={**node.attrs, **new})

    def edit(graph: Graph) -> Graph:
        chosen = [node.op == op and bool(re.search(at, node.name)) for node in graph.nodes]
        nodes = tuple(
            changed(node) if is_chosen else node
            for node, is_chosen in zip(graph.nodes, chosen, strict=True)
        )
        encoder = edit(graph.encoder) if graph.encoder else None
        return dataclasses.replace(graph, nodes=nodes, encoder=encoder)

    return edit
