"""Which tensor gets which type: the rules of `llama-quantize`.

A mixture's type goes to all matrices but small and delicate ones (`places.is_quantizable`). Some
places lose more by quantizing than others and get more bits (`Rules`); what does not fit into whole
blocks gets a type with smaller blocks (`fitting_type`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from jitllm.kernels import formats
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.quantize.ftypes import FileType
from jitllm.llm.quantize.places import layer_of, place

_AT_LEAST_Q8_0_OF = {"glm5-next": ("attn_q_a", "attn_q_b", "nextn.eh_proj")}
_SMALLER = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S"), "IQ4_NL"),
    **dict.fromkeys(("IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_K", "Q3_K", "TQ1_0", "TQ2_0", "Q2_0"), "Q4_0"),
    "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0",
}  # fmt: skip
_NEED_IMATRIX = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS")
_SMALLEST = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M")
# What delicate places get in the smallest mixtures.
_FINER = {**dict.fromkeys(_SMALLEST, "Q2_K"), "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S"}
_TOKEN_EMBD = {
    **_FINER, "IQ3_XXS": "IQ3_S", "TQ1_0": "Q4_K", "TQ2_0": "Q4_K", "Q2_0": "Q4_K",
}  # fmt: skip
_OUTPUT_OF_8_EXPERTS = (
    "Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M",
    "IQ4_NL", "IQ4_XS",
)  # fmt: skip
_ATTN_OUTPUTS = {
    "IQ1_S": "IQ2_XXS", "IQ1_M": "IQ2_XXS", "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S", "IQ3_XXS": "IQ3_S",
    "IQ3_M": "Q4_K", "Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K",
}  # fmt: skip
_QUERIES_AND_KEYS = {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}
_MANY_QUERIES = 4  # for each key head: there are few values, and more bits for them cost little
_VALUES_OF_MANY = {
    **dict.fromkeys(("Q2_K", "Q2_K_S", "IQ3_XXS", "IQ3_XS", "IQ3_S"), "Q4_K"),
    "IQ4_NL": "Q5_K", "IQ4_XS": "Q5_K",
}  # fmt: skip
_VALUES = {"Q2_K": "Q3_K", "IQ3_M": "Q4_K", "Q3_K_L": "Q5_K"}


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


def fitting_type(type_name: str, n_columns: int) -> str:
    """Return the type, or one with smaller blocks if rows are not whole blocks; at last F16."""
    for name in (type_name, _SMALLER.get(type_name, "F16")):
        if n_columns % formats.get(name).block_size == 0:
            return name
    return "F16"


def needs_imatrix(name: str, type_name: str, ftype: str) -> bool:
    """Whether a type would be of no use here without knowing which columns matter."""
    if place(name) in ("token_embd", "output"):
        return False
    return type_name in _NEED_IMATRIX or (ftype == "Q2_K_S" and type_name == "Q2_K")


class Rules:
    """Choose types, tensor by tensor in the order of `places.in_order`: some rules count.

    Parameters
    ----------
    ftype : FileType
    facts : ModelFacts
    """

    def __init__(self, ftype: FileType, facts: ModelFacts) -> None:
        self._ftype = ftype
        self._facts = facts
        self._counts = {"value": 0, "down": 0, "gate": 0, "up": 0}

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
        small = self._ftype.name in _SMALLEST and kind != "token_embd"
        rule = (_SMALLEST_RULES if small else _RULES).get(kind)
        return rule(self, name) if rule else type_name

    def _output(self, n_columns: int) -> str:
        name, type_name = self._ftype.name, self._ftype.type_name
        fits = n_columns % formats.get(type_name).block_size == 0
        if type_name in ("MXFP4", "Q8_0") or self._facts.architecture == "falcon" or not fits:
            return "Q8_0"
        return "Q5_K" if name in _SMALLEST or name == "IQ3_XXS" else "Q6_K"

    def _mxfp4(self, kind: str, shape: tuple[int, ...]) -> str:
        """Experts; of this architecture other tensors have three dimensions too."""
        plain = self._facts.architecture == "bailingmoe3" and kind not in ("up", "gate", "down")
        return "MXFP4" if len(shape) > 2 and shape[-3] > 1 and not plain else "Q8_0"

    def _token_embd(self, _: str) -> str:
        return _TOKEN_EMBD.get(self._ftype.name, self._ftype.type_name)

    def _small_value(self, _: str) -> str:
        few = self._facts.n_gqa < _MANY_QUERIES and self._facts.n_expert < 4
        return _FINER[self._ftype.name] if few else "Q4_K"

    def _value(self, _: str) -> str:
        facts, i = self._facts, self._next("value")
        if facts.n_expert == 8:
            return "Q8_0"
        type_name = self._plain_value(i)
        return "Q5_K" if facts.is_70b and type_name in ("Q3_K", "Q4_K") else type_name

    def _plain_value(self, i: int) -> str:
        name = self._ftype.name
        if self._facts.n_gqa >= _MANY_QUERIES and name in _VALUES_OF_MANY:
            return _VALUES_OF_MANY[name]
        if name == "Q3_K_M":
            return "Q5_K" if i < 2 else "Q4_K"
        if name in ("Q4_K_M", "Q5_K_M") and _more_bits(i, self._facts.n_values):
            return "Q6_K"
        if name == "Q4_K_S" and i < 4:
            return "Q5_K"
        if name == "IQ3_XXS" and not self._facts.has_imatrix:
            return "IQ3_S"
        return _VALUES.get(name, self._ftype.type_name)

    def _small_key(self, _: str) -> str:
        return "Q4_K" if self._facts.n_expert == 8 else self._ftype.type_name

    def _key(self, name: str) -> str:
        return "Q8_0" if self._facts.n_expert == 8 else self._query(name)

    def _query(self, _: str) -> str:
        return _QUERIES_AND_KEYS.get(self._ftype.name, self._ftype.type_name)

    def _gate(self, tensor: str) -> str:
        return self._wide("gate", tensor)

    def _up(self, tensor: str) -> str:
        return self._wide("up", tensor)

    def _wide(self, kind: str, tensor: str) -> str:
        i, n = self._layer(kind, tensor), self._facts.n_layers
        middle = n // 8 <= i < 7 * n // 8
        return "IQ3_XXS" if self._ftype.name == "IQ3_XS" and middle else self._ftype.type_name

    def _small_down(self, _: str) -> str:
        early = self._next("down") < self._facts.n_layers // 8
        return _FINER[self._ftype.name] if early else self._ftype.type_name

    def _down(self, tensor: str) -> str:
        i, n = self._layer("down", tensor), self._facts.n_layers
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
        return chosen or self._early_down(i, n)

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
        return chosen or self._early_down(i, n)

    def _early_down(self, i: int, n: int) -> str:
        """The first eighth of layers, where some types need help."""
        name, known, early = self._ftype.name, self._facts.has_imatrix, i < n // 8
        if name == "IQ3_XXS" and not known:
            return "Q4_K" if early else "Q3_K"
        if name == "IQ3_M" and (early or (self._facts.n_expert == 8 and _more_bits(i, n))):
            return "Q4_K"
        if early and name == "Q2_K_S":
            return "Q4_K"
        if early and name in ("IQ4_NL", "IQ4_XS") and not known:
            return "Q5_K"
        if early and name in ("Q4_0", "Q5_0") and known:
            return name[:-1] + "1"
        return self._ftype.type_name

    def _attn_output(self, _: str) -> str:
        name, type_name = self._ftype.name, self._ftype.type_name
        if self._facts.n_expert == 8 and name in _SMALLEST:
            return "Q5_K"
        if self._facts.architecture == "falcon" and name not in _SMALLEST:
            return "Q4_K" if name == "Q3_K_L" else type_name
        if self._facts.n_expert == 8:
            return "Q5_K" if name in _OUTPUT_OF_8_EXPERTS else type_name
        return _ATTN_OUTPUTS.get(name, type_name)

    def _next(self, kind: str) -> int:
        """How many tensors of this kind there were before."""
        self._counts[kind] += 1
        return self._counts[kind] - 1

    def _layer(self, kind: str, tensor: str) -> int:
        """The layer of a tensor, by counting; experts may be tensors of their own, in any order."""
        i, n = self._next(kind), self._facts.n_layers
        if self._facts.n_expert > 1:
            i = layer_of(tensor)
            if not 0 <= i < n:
                raise ModelFormatError(
                    f"tensor {tensor!r}: expected a layer from 0 to {n - 1} in its name, got {i}"
                )
        return i


_RULES: dict[str, Callable[[Rules, str], str]] = {
    "token_embd": Rules._token_embd,
    "value": Rules._value,
    "key": Rules._key,
    "query": Rules._query,
    "gate": Rules._gate,
    "up": Rules._up,
    "down": Rules._down,
    "attn_output": Rules._attn_output,
}
_SMALLEST_RULES: dict[str, Callable[[Rules, str], str]] = {
    "value": Rules._small_value,
    "key": Rules._small_key,
    "down": Rules._small_down,
    "attn_output": Rules._attn_output,
}


def _more_bits(i: int, n: int) -> bool:
    """The first and last eighth of layers, and every third between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2
