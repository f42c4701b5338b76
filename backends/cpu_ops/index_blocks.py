"""The index of blocks as ops: write its keys, choose positions."""

from jitllm.backends._cpu import sparse
from jitllm.backends._cpu.lower import Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

INDEX_BLOCKS = abi.Op("sparse_index", "blocks", sparse.INDEX_FIELDS)


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the ops."""
    sparse.index(lowering, node, INDEX_BLOCKS, None)
