"""What a model is: sizes and constants read from metadata, checked and typed."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar

import numpy as np

from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.rope import RopeScaling

T = TypeVar("T")
_REQUIRED: Any = object()
_MAX_LAYERS = 4096  # bounds what a damaged file makes us build
ROPE_TYPES = ("none", "linear", "yarn", "longrope")


class ModelFile(Protocol):
    """What a configuration is read from; `GGUFFile` is one."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Values by key."""

    @property
    def tensors(self) -> Mapping[str, Any]:
        """Descriptions of tensors by name, with a `shape` in NumPy order."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Typed reads of one architecture's keys: `get("block_count", int)` reads "llama.block_count".

    Parameters
    ----------
    values : mapping
        All metadata of a file.
    architecture : str
        The prefix.
    """

    values: Mapping[str, Any]
    architecture: str

    def get(self, key: str, kind: type[T], default: T = _REQUIRED) -> T:
        """Return the value of `<architecture>.<key>`.

        Parameters
        ----------
        key : str
        kind : type
            `bool`, `int`, `float` (also takes whole numbers) or `str`.
        default : optional
            Returned when the key is absent.

        Raises
        ------
        ModelFormatError
            If the value has another type, or is absent and there is no default.
        """
        name = f"{self.architecture}.{key}"
        value = self.values.get(name, default)
        if value is _REQUIRED:
            raise ModelFormatError(f"key {name!r}: expected {kind.__name__}, got no key")
        return _typed(name, value, kind)

    def per_layer(
        self, key: str, kind: type[T], n_layers: int, default: T = _REQUIRED
    ) -> tuple[T, ...]:
        """Return one value per layer of a key that holds one value for all, or an array."""
        name = f"{self.architecture}.{key}"
        value = self.values.get(name, default)
        if not isinstance(value, np.ndarray):
            return (self.get(key, kind, default),) * n_layers
        if len(value) < n_layers:
            raise ModelFormatError(
                f"key {name!r}: expected one value for each of {n_layers} layers, got {len(value)}"
            )
        return tuple(_typed(name, item, kind) for item in value[:n_layers].tolist())


def _typed(name: str, value: Any, kind: type[T]) -> T:
    if kind is float and type(value) is int:
        value = float(value)
    if kind is bool and value in (0, 1):
        value = bool(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ModelFormatError(
            f"key {name!r}: expected {kind.__name__}, got {type(value).__name__} {value!r:.80}"
        )
    return value


@dataclass(frozen=True, repr=False)
class ModelConfig:
    """Sizes and constants of a model, under the names of Hugging Face's config.json.

    What only one architecture knows, its file reads from `metadata`.

    Attributes
    ----------
    architecture : str
        `general.architecture`.
    vocab_size : int
        Rows of the embedding table.
    max_position_embeddings : int
        Context length the model was made for.
    hidden_size : int
    num_hidden_layers : int
    num_attention_heads, num_key_value_heads : tuple of int
        Per layer; no key heads in a layer without attention.
    intermediate_size : tuple of int
        Columns of the feed-forward network's middle, per layer.
    head_dim, v_head_dim : int
        Columns of a query or key head, and of a value head.
    rotary_dim : int
        Columns of a head that turn.
    rope_theta : float
    rope_scaling : RopeScaling
    num_experts, num_experts_per_tok : int
        0 for a dense model. Where layers differ, the most.
    moe_intermediate_size : int
        0 if the file does not say; where layers differ, the largest.
    sliding_window : int
        Positions that layers with a window see, themselves included; 0 for none.
    metadata : Metadata
    """

    architecture: str
    vocab_size: int
    max_position_embeddings: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: tuple[int, ...]
    num_key_value_heads: tuple[int, ...]
    intermediate_size: tuple[int, ...]
    head_dim: int
    v_head_dim: int
    rotary_dim: int
    rope_theta: float
    rope_scaling: RopeScaling
    num_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    sliding_window: int
    metadata: Metadata

    def __repr__(self) -> str:
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        del shown["metadata"]  # of all keys
        return f"ModelConfig({', '.join(f'{k}={_short(v)}' for k, v in shown.items())})"

    @property
    def rms_norm_eps(self) -> float:
        """Epsilon of the RMS norms."""
        return _positive(self.metadata, "attention.layer_norm_rms_epsilon", float)

    @classmethod
    def from_file(cls, file: ModelFile) -> "ModelConfig":
        """Read a file's metadata.

        Raises
        ------
        ModelFormatError
            If a key is absent, has another type, or a value no model can have.
        """
        architecture = Metadata(file.metadata, "general").get("architecture", str)
        meta = Metadata(file.metadata, architecture)
        n_layers = _positive(meta, "block_count", int)
        if n_layers > _MAX_LAYERS:
            raise ModelFormatError(
                f"key '{architecture}.block_count': expected at most {_MAX_LAYERS}, got {n_layers}"
            )
        hidden = _positive(meta, "embedding_length", int)
        heads = meta.per_layer("attention.head_count", int, n_layers)
        n_ctx = _positive(meta, "context_length", int)
        equal = hidden // max(1, *heads)  # of each head, if together they are as wide as the rest
        head_dim = _positive(meta, "attention.key_length", int, equal)
        config = cls(
            architecture=architecture,
            vocab_size=_vocab_size(file),
            max_position_embeddings=n_ctx,
            hidden_size=hidden,
            num_hidden_layers=n_layers,
            num_attention_heads=heads,
            num_key_value_heads=_kv_heads(meta, heads),
            intermediate_size=meta.per_layer("feed_forward_length", int, n_layers, 0),
            head_dim=head_dim,
            v_head_dim=_positive(meta, "attention.value_length", int, equal),
            rotary_dim=meta.get("rope.dimension_count", int, head_dim),
            rope_theta=_positive(meta, "rope.freq_base", float, 10000.0),
            rope_scaling=_rope_scaling(meta, n_ctx),
            num_experts=meta.get("expert_count", int, 0),
            num_experts_per_tok=max(meta.per_layer("expert_used_count", int, n_layers, 0)),
            moe_intermediate_size=max(
                meta.per_layer("expert_feed_forward_length", int, n_layers, 0)
            ),
            sliding_window=meta.get("attention.sliding_window", int, 0),
            metadata=meta,
        )
        _check(config)
        return config


def _short(value: Any) -> str:
    """Return how Python writes a value; one that is the same in all layers once."""
    if isinstance(value, tuple) and len(set(value)) == 1 < len(value):
        return f"{len(value)} * ({value[0]!r},)"
    return repr(value)


def _positive(meta: Metadata, key: str, kind: type[T], default: T = _REQUIRED) -> T:
    value: Any = meta.get(key, kind, default)
    if not value > 0:
        raise ModelFormatError(
            f"key '{meta.architecture}.{key}': expected a positive number, got {value}"
        )
    return value  # type: ignore[no-any-return]


def _vocab_size(file: ModelFile) -> int:
    table = file.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise ModelFormatError(
            "tensor 'token_embd.weight': expected shape (vocabulary, hidden_size), got "
            f"{'none' if table is None else table.shape}"
        )
    return int(table.shape[0])


def _kv_heads(meta: Metadata, heads: tuple[int, ...]) -> tuple[int, ...]:
    if f"{meta.architecture}.attention.head_count_kv" not in meta.values:
        return heads
    return meta.per_layer("attention.head_count_kv", int, len(heads))


def _rope_scaling(meta: Metadata, n_ctx: int) -> RopeScaling:
    kind = meta.get("rope.scaling.type", str, "linear")
    if kind not in ROPE_TYPES:
        raise ModelFormatError(
            f"key '{meta.architecture}.rope.scaling.type': expected one of {ROPE_TYPES}, "
            f"got {kind!r}"
        )
    factor = meta.get("rope.scaling.factor", float, 0.0)
    factor = factor or meta.get("rope.scale_linear", float, 0.0) or 1.0  # 0 says: not scaled
    return RopeScaling(
        type=kind,
        factor=factor,
        attention_factor=meta.get("rope.scaling.attn_factor", float, 1.0),
        original_max_position_embeddings=_positive(
            meta, "rope.scaling.original_context_length", int, n_ctx
        ),
        beta_fast=_positive(meta, "rope.scaling.yarn_beta_fast", float, 32.0),
        beta_slow=_positive(meta, "rope.scaling.yarn_beta_slow", float, 1.0),
        log_multiplier=meta.get("rope.scaling.yarn_log_multiplier", float, 0.0),
    )


def _check(config: ModelConfig) -> None:
    a, all_heads = config.architecture, config.num_attention_heads
    has_attention = any(all_heads)  # without it key heads may be those of other states
    for i, (heads, kv_heads) in enumerate(zip(all_heads, config.num_key_value_heads, strict=True)):
        is_odd = kv_heads > 0 and (heads % kv_heads != 0 or (has_attention and not heads))
        if heads < 0 or kv_heads < 0 or is_odd:
            raise ModelFormatError(
                f"keys '{a}.attention.head_count' and '.head_count_kv': expected a whole number "
                f"of query heads for each key head, got {heads} and {kv_heads} in layer {i}"
            )
    if not 0 <= config.rotary_dim <= config.head_dim or config.rotary_dim % 2:
        raise ModelFormatError(
            f"key '{a}.rope.dimension_count': expected an even number up to {config.head_dim}, "
            f"got {config.rotary_dim}"
        )
    if config.num_experts and not 1 <= config.num_experts_per_tok <= config.num_experts:
        raise ModelFormatError(
            f"key '{a}.expert_used_count': expected 1 to {config.num_experts}, "
            f"got {config.num_experts_per_tok}"
        )
    if config.rope_scaling.type == "yarn" and config.rope_theta <= 1:
        raise ModelFormatError(
            f"key '{a}.rope.freq_base': expected more than 1 for YaRN, got {config.rope_theta}"
        )
    if not config.rope_scaling.factor > 0 or config.sliding_window < 0:
        raise ModelFormatError(
            f"keys '{a}.rope.scaling.factor' and '{a}.attention.sliding_window': expected no "
            f"negative number, got {config.rope_scaling.factor} and {config.sliding_window}"
        )
