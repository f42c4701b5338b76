"""PLaMo 2, attention and Mamba in turns: "plamo2". Source: Preferred Networks, 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation, rotation
from jitllm.llm.graph.words.heads import columns, head_columns
from jitllm.llm.graph.words.ssm import causal_conv, ssm_scan
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models._mamba import StateSpace, group_norm, normed_parts

LEAST_DT = 64  # columns that steps are made of: n / 16, but no fewer


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a norm before and one behind every block."""
    turns = rotation("neox", config.rotary_dim, config.rope_theta, config.rope_scaling)
    eps, x = config.rms_norm_eps, nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        blk = f"blk.{i}."
        h = nn.rms_norm(g, x, config, blk + "attn_norm")
        if config.num_key_value_heads[i]:
            h = _attention(g, h, turns, config, i)
        else:
            h = _mamba(g, h, config, i)
        h = g.rms_norm(
            h, _tensor(g, blk, "post_attention_norm"), eps=eps, name=blk + "attn_post_norm"
        )
        x = g.add(h, x, name=blk + "ffn_inp")

        h = nn.rms_norm(g, x, config, blk + "ffn_norm")
        h = mlp.fused_mlp(g, h, config, i)
        h = g.rms_norm(h, _tensor(g, blk, "post_ffw_norm"), eps=eps, name=blk + "ffn_post_norm")
        x = g.add(h, x, name=blk + "l_out")
    lm_head.logits(g, x, config)


def _tensor(g: GraphBuilder, blk: str, name: str) -> str:
    """Name of a norm's tensor, in this architecture's files without a suffix."""
    return g.optional(f"{blk}{name}.weight") or blk + name


def _attention(g: GraphBuilder, x: Value, turns: Rotation, config: ModelConfig, i: int) -> Value:
    """Attention whose heads of queries and keys have norms of their own: [T, n]."""
    q, k, v = attn.fused_qkv(g, x, config, i)
    heads, kv_heads = config.num_attention_heads[i], config.num_key_value_heads[i]
    q = group_norm(g, q, config, f"blk.{i}.attn_q_norm", heads)
    k = group_norm(g, k, config, f"blk.{i}.attn_k_norm", kv_heads)
    q, k = attn.rope(g, q, k, turns, config, i)
    return attn.attend(g, q, k, v, config, i, scale=config.v_head_dim**-0.5)


def _mamba(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """A scan with a decay for each head, its vectors made as in Mamba's first form: [T, n]."""
    blk, ssm = f"blk.{i}.", StateSpace.of(config)
    ssm.check_heads(config)
    inner, heads, size = ssm.d_inner, ssm.dt_rank, ssm.d_state
    head_dim, rank = inner // heads, max(LEAST_DT, config.hidden_size // 16)
    zx = g.matmul(x, blk + "ssm_in.weight", width=2 * inner, name=blk + "ssm_in")
    z = head_columns(g, zx, 0, head_dim, n_heads=heads, name=blk + "ssm_z")
    x = head_columns(g, zx, head_dim, 2 * head_dim, n_heads=heads, name=blk + "ssm_xin")
    x = causal_conv(
        g, x, blk + "ssm_conv1d.weight", taps=ssm.d_conv, act="silu", name=blk + "ssm_conv1d"
    )
    parts = g.matmul(x, blk + "ssm_x.weight", width=rank + 2 * size, name=blk + "ssm_x")
    b = columns(g, parts, 0, size, name=blk + "ssm_b")
    c = columns(g, parts, size, 2 * size, name=blk + "ssm_c")
    step = columns(g, parts, 2 * size, 2 * size + rank, name=blk + "ssm_dt_in")
    step, b, c = normed_parts(g, step, b, c, config, i)
    step = g.matmul(
        step, blk + "ssm_dt.weight", width=heads, bias=blk + "ssm_dt.bias", name=blk + "ssm_dt"
    )  # fmt: skip
    a, d = (g.values(blk + name, (heads,)) for name in ("ssm_a", "ssm_d"))
    y = ssm_scan(g, x, b, c, n_heads=heads, n_groups=1, a=a, d=d, step=step, name=blk + "ssm_scan")
    y = g.glu(z, y, act="silu", name=blk + "ssm_gated")
    return g.matmul(y, blk + "ssm_out.weight", width=config.hidden_size, name=blk + "ssm_out")
