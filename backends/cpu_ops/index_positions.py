"""The lightning indexer as ops: write its keys, choose positions."""

from jitllm.backends import _cpu_sparse as sparse
from jitllm.backends._cpu_lower import Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

INDEX_POSITIONS = abi.Op("sparse_index", "positions", sparse.INDEX_FIELDS)


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the ops."""
    w = lowering.buffer(node.inputs[2]) if len(node.inputs) > 2 else None
    sparse.index(lowering, node, INDEX_POSITIONS, w)
