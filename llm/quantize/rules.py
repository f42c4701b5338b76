"""Which tensor gets which type: the rules of `llama-quantize`.

A mixture's type goes to all matrices but small and delicate ones (`is_quantizable`). Some places
lose more by quantizing than others and get more bits (`Rules`); what does not fit into whole
blocks gets a type with smaller blocks (`fitting_type`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from jitllm.kernels import formats
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.quantize.ftypes import FileType

_KEPT = (
    "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel",
    "per_layer_model_proj", "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight",
    "indexer.q_proj.weight", "time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight",
    "time_mix_w2.weight", "time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight",
    "time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight", "time_mix_g1.weight",
    "time_mix_g2.weight", "time_mix_decay_w1.weight", "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight", "attn_rel_b.weight", ".position_embd", "sam.pos_embd",
    "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger", "a.rvq.codebook",
    "mm.a.code_embd",
)  # fmt: skip
_KEPT_WHOLE = ("position_embd.weight", "token_types.weight")
_KEPT_OF = {
    "glm5-next": (
        "hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate",
        "indexer_compressor_ape", "ssm_f_a.weight", "ssm_f_b.weight", "ssm_g_a.weight",
        "ssm_g_b.weight", "ssm_beta.weight", "attn_kv_a_mqa.weight", "attn_k_b.weight",
        "attn_v_b.weight",
    ),
}  # fmt: skip
_AT_LEAST_Q8_0_OF = {"glm5-next": ("attn_q_a", "attn_q_b", "nextn.eh_proj")}
_PLACES = (
    ("value", ("attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight")),
    ("key", ("attn_k.weight",)),
    ("query", ("attn_q.weight",)),
    ("attn_output", ("attn_output.weight",)),
    ("up", ("ffn_up",)),
    ("gate", ("ffn_gate",)),
    ("down", ("ffn_down",)),
)
_SMALLER = {
    "IQ4_XS": "IQ4_NL", "Q2_K": "Q4_0", "Q3_K": "Q4_0", "TQ1_0": "Q4_0", "TQ2_0": "Q4_0",
    "Q2_0": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0",
}  # fmt: skip
_EXPERT_OUTPUTS = ("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ4_NL", "IQ4_XS")
_ATTN_OUTPUTS = {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}


@dataclass(frozen=True)
class ModelFacts:
    """What the rules ask of a model.

    Attributes
    ----------
    architecture : str
    n_layers, n_expert : int
    n_gqa : int
        Query heads for each key head, of the first layer.
    n_values : int
        Tensors at the place "value".
    tied : bool
        The token embeddings are the output matrix too.
    is_70b : bool
        Values are small beside the rest and get more bits.
    has_imatrix : bool
    """

    architecture: str
    n_layers: int
    n_expert: int = 0
    n_gqa: int = 1
    n_values: int = 0
    tied: bool = False
    is_70b: bool = False
    has_imatrix: bool = False


def place(name: str) -> str:
    """Return the kind of place a tensor's name stands for: "output", "value", "down", ..."""
    if name == "output.weight":
        return "output"
    if name in ("token_embd.weight", "per_layer_token_embd.weight"):
        return "token_embd"
    return next((key for key, parts in _PLACES if any(p in name for p in parts)), "other")


def in_order(names: list[str]) -> list[str]:
    """Return tensor names in the order in which rules count them: by layer, then by name."""
    return sorted(names, key=lambda name: (_layer(name), name.encode()))


def is_quantizable(name: str, shape: tuple[int, ...], architecture: str) -> bool:
    """Whether a tensor is a matrix that may be stored in another type."""
    n_dims = next((len(shape) - i for i, size in enumerate(shape) if size > 1), 1)
    kept = _KEPT + _KEPT_OF.get(architecture, ())
    return (
        n_dims >= 2
        and name.endswith("weight")
        and name not in _KEPT_WHOLE
        and not any(part in name for part in kept)
    )


def fitting_type(type_name: str, n_columns: int) -> str:
    """Return the type, or one with smaller blocks if rows are not whole blocks; at last F16."""
    for name in (type_name, _SMALLER.get(type_name, "F16")):
        if n_columns % formats.get(name).block_size == 0:
            return name
    return "F16"


def needs_imatrix(name: str, type_name: str, ftype: str) -> bool:
    """Whether a type would be of no use here without knowing which columns matter."""
    plain = place(name) in ("token_embd", "output")
    return ftype == "Q2_K_S" and type_name == "Q2_K" and not plain


class Rules:
    """Choose types, tensor by tensor in the order of `in_order`: some rules count.

    Parameters
    ----------
    ftype : FileType
    facts : ModelFacts
    """

    def __init__(self, ftype: FileType, facts: ModelFacts) -> None:
        self._ftype = ftype
        self._facts = facts
        self._n_values = 0
        self._n_downs = 0

    def choose(self, name: str, shape: tuple[int, ...]) -> str:
        """Return the type for a quantizable tensor, whether or not it fits into blocks."""
        kind, facts, type_name = place(name), self._facts, self._ftype.type_name
        delicate = _AT_LEAST_Q8_0_OF.get(facts.architecture, ())
        if any(part in name for part in delicate):
            return "Q8_0"
        if kind == "output" or (facts.tied and kind == "token_embd"):
            return self._output(shape[-1])
        if self._ftype.name == "MXFP4_MOE":
            return self._mxfp4(kind, shape)
        rule = _RULES.get(kind)
        return rule(self, name) if rule else type_name

    def _output(self, n_columns: int) -> str:
        type_name = self._ftype.type_name
        fits = n_columns % formats.get(type_name).block_size == 0
        if type_name in ("MXFP4", "Q8_0") or self._facts.architecture == "falcon" or not fits:
            return "Q8_0"
        return "Q6_K"

    def _mxfp4(self, kind: str, shape: tuple[int, ...]) -> str:
        """Experts; of this architecture other tensors have three dimensions too."""
        plain = self._facts.architecture == "bailingmoe3" and kind not in ("up", "gate", "down")
        return "MXFP4" if len(shape) > 2 and shape[-3] > 1 and not plain else "Q8_0"

    def _token_embd(self, _: str) -> str:
        return "Q4_K" if self._ftype.name in ("TQ1_0", "TQ2_0", "Q2_0") else self._ftype.type_name

    def _value(self, _: str) -> str:
        facts, i = self._facts, self._n_values
        self._n_values += 1
        if facts.n_expert == 8:
            return "Q8_0"
        type_name = self._plain_value(i)
        return "Q5_K" if facts.is_70b and type_name in ("Q3_K", "Q4_K") else type_name

    def _plain_value(self, i: int) -> str:
        name, many = self._ftype.name, self._facts.n_gqa >= 4
        if name == "Q2_K":
            return "Q4_K" if many else "Q3_K"
        if name == "Q2_K_S" and many:
            return "Q4_K"
        if name == "Q3_K_M":
            return "Q5_K" if i < 2 else "Q4_K"
        if name == "Q3_K_L" or (name in ("IQ4_NL", "IQ4_XS") and many):
            return "Q5_K"
        if name in ("Q4_K_M", "Q5_K_M") and _more_bits(i, self._facts.n_values):
            return "Q6_K"
        if name == "Q4_K_S" and i < 4:
            return "Q5_K"
        return self._ftype.type_name

    def _key(self, _: str) -> str:
        return "Q8_0" if self._facts.n_expert == 8 else self._ftype.type_name

    def _down(self, tensor: str) -> str:
        i, n = self._n_downs, self._facts.n_layers
        self._n_downs += 1
        if self._facts.n_expert > 1:  # experts may be tensors of their own, in any order
            i = _layer(tensor)
            if not 0 <= i < n:
                raise ModelFormatError(
                    f"tensor {tensor!r}: expected a layer from 0 to {n - 1} in its name, got {i}"
                )
        if self._facts.architecture == "falcon":
            return self._falcon_down(i, n)
        return self._layer_down(i, n)

    def _layer_down(self, i: int, n: int) -> str:
        name, early = self._ftype.name, i < n // 8
        chosen = {
            "Q2_K": "Q3_K",
            "Q3_K_M": "Q5_K" if i < n // 16 else "Q4_K",
            "Q3_K_L": "Q5_K",
        }.get(name)
        if name in ("Q4_K_M", "Q5_K_M") and _more_bits(i, n):
            chosen = "Q6_K"
        if early and name == "Q4_K_S":
            chosen = "Q5_K"
        return chosen or self._early_down(early)

    def _falcon_down(self, i: int, n: int) -> str:
        name, more = self._ftype.name, _more_bits(i, n)
        first = i < n // 16
        chosen = {
            "Q2_K": "Q3_K",
            "Q3_K_M": "Q5_K" if first else "Q4_K" if more else "Q3_K",
            "Q3_K_L": "Q4_K",
            "Q4_K_M": "Q6_K" if first else "Q5_K" if more else "Q4_K",
            "Q5_K_M": "Q6_K" if more else "Q5_K",
        }.get(name)
        return chosen or self._early_down(i < n // 8)

    def _early_down(self, early: bool) -> str:
        """The first eighth of layers, where some types need help."""
        name, known = self._ftype.name, self._facts.has_imatrix
        if early and name == "Q2_K_S":
            return "Q4_K"
        if early and name in ("IQ4_NL", "IQ4_XS") and not known:
            return "Q5_K"
        if early and name in ("Q4_0", "Q5_0") and known:
            return name[:-1] + "1"
        return self._ftype.type_name

    def _attn_output(self, _: str) -> str:
        name, type_name = self._ftype.name, self._ftype.type_name
        if self._facts.architecture == "falcon":
            return "Q4_K" if name == "Q3_K_L" else type_name
        if self._facts.n_expert == 8:
            return "Q5_K" if name in _EXPERT_OUTPUTS else type_name
        return _ATTN_OUTPUTS.get(name, type_name)


_RULES: dict[str, Callable[[Rules, str], str]] = {
    "token_embd": Rules._token_embd,
    "value": Rules._value,
    "key": Rules._key,
    "down": Rules._down,
    "attn_output": Rules._attn_output,
}


def _more_bits(i: int, n: int) -> bool:
    """The first and last eighth of layers, and every third between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def _layer(name: str) -> int:
    found = re.match(r"blk\.(\d+)\.", name)
    return int(found[1]) if found else -1
