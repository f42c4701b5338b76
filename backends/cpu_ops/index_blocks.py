"""The index of blocks as ops: write its keys, choose positions."""

from jitllm.backends import _cpu_sparse as sparse
from jitllm.backends._cpu_lower import Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

INDEX_BLOCKS = abi.Op("sparse_index", "blocks", sparse.INDEX_FIELDS)


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the ops."""
    sparse.index(lowering, node, INDEX_BLOCKS, None)
