"""`index_positions`: the lightning indexer."""

from jitllm.backends._gpu import sparse
from jitllm.backends._gpu.core import write_cells
from jitllm.backends._gpu.dispatch import Place
from jitllm.backends._gpu.lower import LANES, Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the write of the index keys, the scores of positions, and the choice."""
    attrs, (k, *weights) = node.attrs, (lowering.place(value) for value in node.inputs[1:])
    pages, kinds, words = sparse.cells(lowering, node)
    write_cells(lowering, node, k, k)  # no values: their heads have no columns
    most, stride = sparse.max_positions(lowering, node), attrs["stride"]
    scores, w = lowering.take("T", -(-most // stride)), weights[0] if weights else None
    with sparse.index_query(lowering, node) as q:
        lowering.emit(
            "index_scores", [Place("run", 0, 0), q, w, pages, scores],
            [q.stride, w.stride if w else 0, scores.stride, attrs["top_k"], *words,
             float(attrs["scale"])],
            [scores], groups=-(-most // LANES), rows="T",
            constants=(kinds[0], attrs["head_dim"], attrs["n_heads"], w is not None, stride),
        )  # fmt: skip
    sparse.choose(lowering, node, scores, 1, size=stride, is_blocks=False)
