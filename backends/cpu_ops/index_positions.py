"""The lightning indexer as ops: write its keys, choose positions."""

from jitllm.backends._cpu import sparse
from jitllm.backends._cpu.lower import Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

INDEX_POSITIONS = abi.Op("sparse_index", "positions", sparse.INDEX_FIELDS)


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the ops."""
    w = lowering.buffer(node.inputs[2]) if len(node.inputs) > 2 else None
    sparse.index(lowering, node, INDEX_POSITIONS, w)
