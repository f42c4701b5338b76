"""`SamplingParams`: how tokens are chosen and when a generation ends."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Self

from jitllm.llm.sampling import intervals
from jitllm.llm.sampling.errors import SamplingError

_log = logging.getLogger("jitllm.sampling")

# what other projects call our fields
_OTHER_NAMES = {
    "temp": "temperature",
    "repeat_penalty": "repetition_penalty",
    "penalty_repeat": "repetition_penalty",
    "repeat_last_n": "penalty_last_n",
    "last_n_tokens_size": "penalty_last_n",
    "typ_p": "typical_p",
    "mirostat_mode": "mirostat",
    "max_new_tokens": "max_tokens",
    "num_predict": "max_tokens",
    "n_predict": "max_tokens",
    "stop_strings": "stop",
    "random_seed": "seed",
}

# `general.sampling.<key>` of a GGUF file to our fields
_METADATA_FIELDS = {
    "sequence": "samplers",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold",
    "temp": "temperature",
    "penalty_last_n": "penalty_last_n",
    "penalty_repeat": "repetition_penalty",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat_tau",
    "mirostat_eta": "mirostat_eta",
}

DEFAULT_SAMPLERS = (
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typical_p",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
)


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen and when a generation ends; the defaults are llama.cpp's.

    Every value is checked; SamplingError names the field, its interval and what came.

    Attributes
    ----------
    temperature, dynatemp_range, dynatemp_exponent
        At 0 or below (and no range) the largest logit wins.
    top_k, top_p, min_p, typical_p, top_n_sigma, min_keep
        Neutral: top_k <= 0, top_p 1, min_p 0, typical_p 1, top_n_sigma <= 0.
    repetition_penalty, frequency_penalty, presence_penalty, penalty_last_n
        Over the last `penalty_last_n` tokens, prompt included; 0 for none, -1 for all.
    dry_multiplier, dry_base, dry_allowed_length, dry_penalty_last_n, dry_sequence_breakers
        Penalty on tokens that continue a repetition; off at multiplier 0.
    xtc_probability, xtc_threshold
        Exclude top choices; off at probability 0.
    mirostat, mirostat_tau, mirostat_eta
        1 or 2 replace all samplers but logit_bias and temperature.
    adaptive_target, adaptive_decay
        Used if `samplers` names "adaptive_p"; a negative target draws plainly.
    seed
        0 to 2**32 - 1; None draws one from the operating system.
    logit_bias
        Token id to a number added to its logit, -inf to forbid it.
    ignore_eos
        Forbid the tokens that end a generation.
    samplers
        Names in order (with arguments as "name:a:b" if wanted), None for `DEFAULT_SAMPLERS`.
        A string is split at ";".
    max_tokens, stop, stop_token_ids
        When to end: None for as long as the context allows.
    context_shift
        What to do when the context is full: False ends the generation. True takes tokens out (see
        `Sequence.remove`) and goes on, without end if `max_tokens` is None; where the cells behind
        them cannot move they are computed again. "move" and "recompute" allow one of both only.
    n_keep, n_discard
        First tokens that such a shift keeps, besides the token of beginning, -1 for all that are
        there when the generation begins, and how many behind them it takes out; 0 for half.
    logprobs, prompt_logprobs
        Number of alternatives to report per token; 0 for the token alone, None for nothing.
    n
        Number of independent results.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    min_keep: int = 0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    penalty_last_n: int = 64
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    adaptive_target: float = -1.0
    adaptive_decay: float = 0.9
    seed: int | None = None
    logit_bias: Mapping[int, float] | None = None
    ignore_eos: bool = False
    samplers: tuple[str, ...] | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    context_shift: bool | str = False
    n_keep: int = 0
    n_discard: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    n: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value = intervals.checked(field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)

    @classmethod
    def create(cls, **user: Any) -> Self:
        """Build from keywords; SamplingError suggests a name for one that does not exist.

        None stands for "not given" where the field has no meaning for None.
        """
        known = {field.name: field.default for field in fields(cls)}
        for name in user:
            if name not in known:
                raise SamplingError(_unknown(name, list(known)))
        given = {
            name: value for name, value in user.items() if value is not None or known[name] is None
        }
        return cls(**given)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], **user: Any) -> Self:
        """Build from keywords; where they are silent the file's `general.sampling.*` counts.

        Parameters
        ----------
        metadata
            Key-value pairs of a GGUF file.
        user
            As for `create`; None counts as silent.
        """
        from_file: dict[str, Any] = {}
        for key, name in _METADATA_FIELDS.items():
            full_key = f"general.sampling.{key}"
            if user.get(name) is None and full_key in metadata:
                from_file[name] = _from_file(full_key, name, metadata[full_key])
        silent = {name for name in from_file if name in user}
        return cls.create(**from_file, **{k: v for k, v in user.items() if k not in silent})

    @classmethod
    def from_text(cls, texts: Mapping[str, str]) -> Self:
        """Build from values written as text, such as the parts of "xtc:0.5:0.1"."""
        defaults = {field.name: field.default for field in fields(cls)}
        return cls.create(
            **{name: _parsed(name, text, defaults.get(name)) for name, text in texts.items()}
        )


def _unknown(name: str, known: list[str]) -> str:
    close = [_OTHER_NAMES[name]] if name in _OTHER_NAMES else get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return f"unknown sampling parameter {name!r}: {hint}"


def _parsed(name: str, text: str, default: Any) -> Any:
    kind = type(default)
    if kind is tuple:
        return tuple(text.split(",")) if text else ()
    try:
        return kind(text) if kind in (int, float) else int(text)
    except ValueError:
        wanted = "a number" if kind is float else "an integer"
        raise SamplingError(f"{name} must be {wanted}, got {text!r}") from None


def _from_file(key: str, name: str, value: Any) -> Any:
    """Return a file's value for a field, checked on its own so that the error names the key."""
    if name == "samplers":
        return _known_samplers(str(value))
    if isinstance(value, float) and name in ("top_k", "penalty_last_n", "mirostat"):
        value = int(value)
    try:
        return intervals.checked(name, value)
    except SamplingError as error:
        raise SamplingError(
            f"{key} of the model file: {error}; pass {name}= to replace it"
        ) from None


def _known_samplers(sequence: str) -> tuple[str, ...]:
    """Return the names of a file's sampler order that exist here; log the others."""
    from jitllm.llm.sampling import registry  # imports samplers, which import this module

    names = []
    for name in sequence.split(";"):
        if registry.exists(name):
            names.append(name)
        else:
            _log.warning("general.sampling.sequence: no sampler %r, left out", name)
    return tuple(names)
