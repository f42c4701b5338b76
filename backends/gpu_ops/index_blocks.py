"""`index_blocks`: the index of blocks."""

from jitllm.backends._gpu import sparse
from jitllm.backends._gpu.core import write_cells
from jitllm.backends._gpu.dispatch import Place
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the write of the index keys, the scores of blocks for each head, and the choice."""
    attrs, k = node.attrs, lowering.place(node.inputs[1])
    pages, kinds, words = sparse.cells(lowering, node)
    write_cells(lowering, node, k, k)  # no values: their heads have no columns
    block, heads = attrs["block"], attrs["n_heads"]
    n_blocks = -(-sparse.max_positions(lowering, node) // (16 * block)) * 16  # whole lines of rows
    scores = lowering.take("T", heads * n_blocks)
    with sparse.index_query(lowering, node) as q:
        lowering.emit(
            "index_block_scores", [Place("run", 0, 0), q, pages, scores],
            [q.stride, scores.stride, n_blocks, attrs["top_k"], *words], [scores],
            groups=heads * n_blocks, rows="T",
            constants=(kinds[0], attrs["head_dim"], block, attrs["local"]),
        )  # fmt: skip
    sparse.choose(lowering, node, scores, heads, size=block, is_blocks=True)
