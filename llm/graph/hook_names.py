"""TransformerLens names for the values of a graph.

Every value can be hooked by its own name, as a float32 array [rows, width]. This file adds the
names that TransformerLens users know, those of HookedTransformer and those of TransformerBridge,
with heads as an axis of their own: [rows, heads, head_dim]. Which point is which:

- `hook_q`, `hook_k`, `hook_v`: after the matrix and its bias, before any norm of heads and before
  rope; `hook_rot_q`, `hook_rot_k`: after both. Layers without rope have no `hook_rot_*`.
- `hook_z`: what the heads give to the output matrix. `hook_pattern`: [heads, queries, keys].
- `hook_attn_out`, `hook_mlp_out`: what is added to the residual stream, so after a norm that
  follows the block (Gemma); the bridge's `attn.hook_out`, `mlp.hook_out` come before it.
- `mlp.hook_pre` is the gate before its activation, `mlp.hook_pre_linear` the other factor,
  `mlp.hook_post` their product. Without a gate (GPT-2) there is no `mlp.hook_pre_linear`. A layer
  with experts has none of the three.
- Layers whose blocks start from the same rows (GPT-NeoX, Falcon) have no `hook_resid_mid`.
- `hook_normalized` includes the norm's weight here, as the bridge's `ln*.hook_out` does;
  HookedTransformer takes it before the weight: divide by the weight to compare.
- `hook_embed` includes a scale of the embeddings (Gemma).
- `ln_final` and `unembed` points have the rows whose logits were asked for; all others have a row
  for every token.

`attn.hook_attn_scores`, `attn.hook_result` and `hook_scale` are not there: these values are never
made.
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from jitllm.backends.ir import Graph, Node
from jitllm.llm.errors import HookError


@dataclass(frozen=True, slots=True)
class HookPoint:
    """Where a hook of some name goes.

    Attributes
    ----------
    name : str
        As asked for.
    tap : str
        Name that backends know.
    heads : int
        Heads that the columns are split into, 0 for no split.
    """

    name: str
    tap: str
    heads: int = 0


# TransformerLens name -> the value it means, the first of several that the graph has. In a layer's
# names "{i}" is its number, "{h}" the number before.
TL_NAMES: dict[str, tuple[str, ...]] = {
    "hook_embed": ("inp_scaled", "token_embd"),
    "embed.hook_out": ("inp_scaled", "token_embd"),
    "hook_pos_embed": ("position_embd",),
    "pos_embed.hook_out": ("position_embd",),
    "ln_final.hook_in": ("output_rows",),
    "ln_final.hook_normalized": ("output_norm",),
    "ln_final.hook_out": ("output_norm",),
    "unembed.hook_in": ("output_norm",),
    "unembed.hook_out": ("output.uncapped", "output"),
}
_BEFORE_LAYER = (
    "blk.{h}.l_out", "inp_positions", "inp_scaled", "token_embd_norm", "token_embd"
)  # fmt: skip
TL_LAYER_NAMES: dict[str, tuple[str, ...]] = {
    "hook_resid_pre": _BEFORE_LAYER,
    "hook_in": _BEFORE_LAYER,
    "hook_resid_mid": ("blk.{i}.ffn_inp",),
    "ln2.hook_in": ("blk.{i}.ffn_inp",),
    "hook_resid_post": ("blk.{i}.l_out",),
    "hook_out": ("blk.{i}.l_out",),
    "hook_attn_out": (
        "blk.{i}.attn_out_scaled",
        "blk.{i}.attn_post_norm",
        "blk.{i}.attn_out",
    ),
    "hook_mlp_out": ("blk.{i}.ffn_out_scaled", "blk.{i}.ffn_post_norm", "blk.{i}.ffn_out"),
    "ln1.hook_in": _BEFORE_LAYER,
    "ln1.hook_normalized": ("blk.{i}.attn_norm",),
    "ln1.hook_out": ("blk.{i}.attn_norm",),
    "ln2.hook_normalized": ("blk.{i}.ffn_norm",),
    "ln2.hook_out": ("blk.{i}.ffn_norm",),
    "ln1_post.hook_out": ("blk.{i}.attn_post_norm",),
    "ln2_post.hook_out": ("blk.{i}.ffn_post_norm",),
    "attn.hook_in": ("blk.{i}.attn_norm",),
    "attn.hook_out": ("blk.{i}.attn_out",),
    "attn.o.hook_out": ("blk.{i}.attn_out",),
    "mlp.hook_in": ("blk.{i}.ffn_norm",),
    "mlp.hook_out": ("blk.{i}.ffn_out",),
    "mlp.out.hook_out": ("blk.{i}.ffn_out",),
    "mlp.hook_pre": ("blk.{i}.ffn_gate", "blk.{i}.ffn_up"),
    "mlp.gate.hook_out": ("blk.{i}.ffn_gate",),
    "mlp.hook_pre_linear": ("blk.{i}.ffn_up",),
    "mlp.in.hook_out": ("blk.{i}.ffn_up",),
    "mlp.hook_post": ("blk.{i}.ffn_act",),
    "mlp.out.hook_in": ("blk.{i}.ffn_act",),
}
TL_QUERY_NAMES: dict[str, tuple[str, ...]] = {
    "attn.hook_q": ("blk.{i}.attn_q",),
    "attn.q.hook_out": ("blk.{i}.attn_q",),
    "attn.hook_rot_q": ("blk.{i}.attn_q_rope",),
    "attn.hook_z": ("blk.{i}.kqv_out",),
    "attn.o.hook_in": ("blk.{i}.kqv_out",),
}
TL_KEY_NAMES: dict[str, tuple[str, ...]] = {
    "attn.hook_k": ("blk.{i}.attn_k",),
    "attn.k.hook_out": ("blk.{i}.attn_k",),
    "attn.hook_v": ("blk.{i}.attn_v",),
    "attn.v.hook_out": ("blk.{i}.attn_v",),
    "attn.hook_rot_k": ("blk.{i}.attn_k_rope",),
}
_LAYER = re.compile(r"blk\.(\d+)\.")


def hook_points(graph: Graph) -> dict[str, HookPoint]:
    """Return all hook points of a graph by name: its own names first, then TransformerLens's.

    Those of its encoder come before its own, and only these.
    """
    taps = dict.fromkeys(graph.encoder.values() if graph.encoder else ()) | dict.fromkeys(
        graph.values()
    )
    attention = {n.name: n for n in graph.all_nodes if n.op == "attention"}
    taps |= dict.fromkeys(f"{name}.pattern" for name in attention)
    points = {tap: HookPoint(tap, tap) for tap in taps}
    for name, options in TL_NAMES.items():
        points |= _point(name, options, taps)
    layers = {int(m[1]) for tap in taps if (m := _LAYER.match(tap))}
    for i in sorted(layers):
        for name, options, heads in _layer_names(attention.get(f"blk.{i}.kqv_out")):
            if name == "mlp.hook_pre_linear" and f"blk.{i}.ffn_gate" not in taps:
                continue  # the only factor is hook_pre
            filled = tuple(option.format(i=i, h=i - 1) for option in options)
            points |= _point(f"blocks.{i}.{name}", filled, taps, heads)
    return points


def resolve(graph: Graph, name: str) -> HookPoint:
    """Return the hook point called `name`.

    Raises
    ------
    HookError
        If the graph has none; the message names near ones.
    """
    points = hook_points(graph)
    if name not in points:
        near = difflib.get_close_matches(name, points, n=3)
        raise HookError(
            f"expected a hook point of this model, got {name!r}; "
            + (f"near ones: {', '.join(near)}" if near else f"there are {len(points)}")
        )
    return points[name]


def _layer_names(attention: Node | None) -> Iterator[tuple[str, tuple[str, ...], int]]:
    for name, options in TL_LAYER_NAMES.items():
        yield name, options, 0
    if attention is None:
        return
    for name, options in TL_QUERY_NAMES.items():
        yield name, options, attention.attrs["n_heads"]
    for name, options in TL_KEY_NAMES.items():
        yield name, options, attention.attrs["n_kv_heads"]
    yield "attn.hook_pattern", (f"{attention.name}.pattern",), 0


def _point(
    name: str, options: tuple[str, ...], taps: dict[str, None], heads: int = 0
) -> dict[str, HookPoint]:
    tap = next((option for option in options if option in taps), None)
    return {} if tap is None else {name: HookPoint(name, tap, heads)}
