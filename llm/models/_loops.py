"""Models that run the same layers several times: each pass has names and keys of its own."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from jitllm.llm.graph.builder import Floats, GraphBuilder, Shaped


@dataclasses.dataclass(frozen=True)
class _Renamed(Mapping[str, Shaped]):
    """The tensors of a file, found by other names."""

    tensors: Mapping[str, Shaped]
    rename: Callable[[str], str]

    def __getitem__(self, name: str) -> Shaped:
        return self.tensors[self.rename(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


@contextmanager
def weights_of(g: GraphBuilder, block_of: Callable[[int], int], n_layers: int) -> Iterator[None]:
    """Give layers the weights of others: "blk.{i}." of tensors means "blk.{block_of(i)}." inside.

    Names of nodes stay as they are. Each of the `n_layers` layers has its own scales of matrices if
    the file has such for the last layer.
    """
    has_own_scales = f"blk.{n_layers - 1}.attn_q.scale" in g.tensors

    def rename(name: str) -> str:
        if has_own_scales and name.endswith(".scale"):
            return name
        return re.sub(r"^blk\.(\d+)\.", lambda m: f"blk.{block_of(int(m[1]))}.", name)

    def values(name: str) -> Floats:
        return read(rename(name))

    tensors, read, first = g.tensors, g.read, len(g.nodes)
    g.tensors, g.read = _Renamed(tensors, rename), values
    try:
        yield
    finally:
        g.tensors, g.read = tensors, read
    for at in range(first, len(g.nodes)):
        node = g.nodes[at]
        g.nodes[at] = dataclasses.replace(node, weights=tuple(map(rename, node.weights)))
