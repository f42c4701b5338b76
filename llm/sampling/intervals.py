"""The allowed values of each field of `SamplingParams`."""

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jitllm.llm.sampling.errors import SamplingError

_INF = math.inf
# closed intervals; an infinite end stands for _LARGEST_FLOAT or 32 bits
_FLOATS = {
    "temperature": (-_INF, _INF),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "top_n_sigma": (-_INF, _INF),
    "repetition_penalty": (1e-30, _INF),  # its inverse must be finite in float32
    "frequency_penalty": (-_INF, _INF),
    "presence_penalty": (-_INF, _INF),
    "dry_multiplier": (0, _INF),
    "dry_base": (0, _INF),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "dynatemp_range": (0, _INF),
    "dynatemp_exponent": (0, _INF),
    "mirostat_tau": (0, _INF),
    "mirostat_eta": (0, _INF),
    "adaptive_target": (-_INF, 1),
    "adaptive_decay": (0, 0.99),
}
_INTS = {
    "top_k": (-_INF, _INF),
    "min_keep": (0, _INF),
    "penalty_last_n": (-1, _INF),
    "dry_allowed_length": (0, _INF),
    "dry_penalty_last_n": (-1, _INF),
    "mirostat": (0, 2),
    "seed": (0, 2**32 - 1),
    "max_tokens": (0, _INF),
    "n_keep": (-1, _INF),
    "n_discard": (0, _INF),
    "logprobs": (0, _INF),
    "prompt_logprobs": (0, _INF),
    "n": (1, _INF),
}
_LARGEST_FLOAT = 1e30  # leaves room for float32 arithmetic
_LARGEST_INT = 2**32 - 1
_NONE = {"seed": "None for a random one", "max_tokens": "None for no limit"}
_OPTIONAL = {"seed", "max_tokens", "logprobs", "prompt_logprobs", "logit_bias", "samplers"}


def checked(name: str, value: Any) -> Any:
    """Return the value of a field in its own type; SamplingError if it is not allowed."""
    if value is None and name in _OPTIONAL:
        return None
    if name in _FLOATS:
        return _number(name, value, _FLOATS[name], float)
    if name in _INTS:
        return _number(name, value, _INTS[name], operator.index)
    return _OTHERS[name](name, value)


def _number(
    name: str, value: Any, interval: tuple[float, float], convert: Callable[[Any], Any]
) -> Any:
    low, high = interval
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        number = convert(value)
    except (TypeError, ValueError):
        kind = "a number" if convert is float else "an integer"
        raise SamplingError(f"{name} must be {kind}{_spelled(low, high)}, got {value!r}") from None
    if convert is not float:
        low, high = max(low, -_LARGEST_INT), min(high, _LARGEST_INT)
    if not (low <= number <= high and abs(number) <= _LARGEST_FLOAT):
        hint = f" ({_NONE[name]})" if name in _NONE else ""
        kind = "finite" if convert is float else "an integer"
        raise SamplingError(f"{name} must be {kind}{_spelled(low, high)}{hint}, got {value!r}")
    return number


def _spelled(low: float, high: float) -> str:
    if low == -_INF:
        return "" if high == _INF else f" and at most {high:g}"
    return f" and at least {low:g}" if high == _INF else f" in [{low:.10g}, {high:.10g}]"


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise SamplingError(f"{name} must be True or False, got {value!r}")
    return value


def _shift(name: str, value: Any) -> bool | str:
    if not isinstance(value, bool) and value not in ("move", "recompute"):
        raise SamplingError(f"{name} must be True, False, 'move' or 'recompute', got {value!r}")
    return bool(value) if isinstance(value, bool) else str(value)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    parts = (value,) if isinstance(value, str) else tuple(_iterated(name, value))
    wrong = [part for part in parts if not isinstance(part, str) or not part]
    if wrong:
        raise SamplingError(f"{name} must hold non-empty strings, got {wrong[0]!r}")
    return parts


def _names(name: str, value: Any) -> tuple[str, ...]:
    return _texts(name, value.split(";") if isinstance(value, str) else value)


def _tokens(name: str, value: Any) -> tuple[int, ...]:
    return tuple(
        _number(name, token, (0, 2**31 - 1), operator.index) for token in _iterated(name, value)
    )


def _iterated(name: str, value: Any) -> Iterable[Any]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise SamplingError(f"{name} must be a sequence, got {value!r}")
    return value


def _bias(name: str, value: Any) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise SamplingError(f"{name} must map token ids to numbers, got {value!r}")
    return {_bias_token(name, token): _bias_number(name, bias) for token, bias in value.items()}


def _bias_token(name: str, token: Any) -> int:
    # JSON keys are strings
    number = int(token) if isinstance(token, str) and token.isdecimal() else token
    return int(_number(f"{name} token", number, (0, 2**31 - 1), operator.index))


def _bias_number(name: str, bias: Any) -> float:
    if isinstance(bias, int | float) and bias == -_INF:
        return -_INF
    return float(_number(f"{name} value", bias, (-_INF, _INF), float))


_OTHERS: dict[str, Callable[[str, Any], Any]] = {
    "dry_sequence_breakers": _texts,
    "stop": _texts,
    "stop_token_ids": _tokens,
    "samplers": _names,
    "ignore_eos": _flag,
    "context_shift": _shift,
    "logit_bias": _bias,
}
