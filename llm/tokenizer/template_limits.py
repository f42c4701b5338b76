"""Bounds on what a chat template may compute, checked before it is computed.

Loaded only when a template is rendered: it imports jinja2.
"""

import re
import time
from collections.abc import Callable, Mapping
from types import BuiltinMethodType
from typing import Any

from jinja2 import TemplateError

MAX_STEPS = 1_000_000  # rounds of loops, calls of macros and functions
MAX_CHARS = 1 << 24  # in all output, and in any one text
MAX_ITEMS = 1_000_000  # in any one list, with what is in it
MAX_WIDTH = 10_000  # of padding, indents and numbers
MAX_BITS = 1 << 14  # of an integer
MAX_SECONDS = 10.0

_WIDTH_IN_FORMAT = re.compile(r"[%{:.][^a-zA-Z%}]*\d{5}|%[-+ #0]*(\d*\.)?\*|:[^}]*\{")
_PADDING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs", "to_bytes"})
_SIZED = (str, bytes, list, tuple)
_NESTED = (list, tuple, dict)


class LimitExceeded(TemplateError):
    """A template wanted more work or memory than a chat can need."""


class Budget:
    """Steps, characters and seconds that one rendering has left."""

    def __init__(self) -> None:
        self._steps = MAX_STEPS
        self._chars = MAX_CHARS
        self._end = time.monotonic() + MAX_SECONDS

    def step(self, chars: int = 0) -> None:
        """Count one step and the text it prints.

        Raises
        ------
        LimitExceeded
        """
        self._steps -= 1
        self._chars -= chars
        if self._steps < 0:
            raise LimitExceeded(f"expected at most {MAX_STEPS} steps")
        if self._chars < 0:
            raise LimitExceeded(f"expected at most {MAX_CHARS} characters of output")
        if time.monotonic() > self._end:
            raise LimitExceeded(f"expected at most {MAX_SECONDS:g} seconds")


def check_size(size: int, limit: int) -> None:
    """Refuse a result of more than `limit`.

    Raises
    ------
    LimitExceeded
    """
    if size > limit:
        raise LimitExceeded(f"expected at most {limit} of a text, list or number, got {size}")


def check_items(value: Any) -> None:
    """Refuse a list or dict with too much in it, counted as often as it is reached.

    Raises
    ------
    LimitExceeded
    """
    if not isinstance(value, _NESTED):
        return
    count = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        children = item.values() if isinstance(item, dict) else item
        count += len(item)
        check_size(count, MAX_ITEMS)
        waiting += [child for child in children if isinstance(child, _NESTED)]


def _check_width(*values: Any) -> None:
    for value in values:
        if isinstance(value, int):
            check_size(abs(value), MAX_WIDTH)


def _check_format(text: Any, *args: Any, **kwargs: Any) -> None:
    if isinstance(text, str):
        check_items([*args, *kwargs.values()])
        if _WIDTH_IN_FORMAT.search(text):
            raise LimitExceeded(f"expected a format with small fixed widths, got {text[:40]!r}")


def _limit_of(value: Any) -> int:
    return MAX_CHARS if isinstance(value, str | bytes) else MAX_ITEMS


def _check_add(left: Any, right: Any) -> None:
    if isinstance(left, _SIZED) and isinstance(right, _SIZED):
        check_size(len(left) + len(right), _limit_of(left))


def _check_multiply(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        check_size(left.bit_length() + right.bit_length(), MAX_BITS)
    for sized, count in ((left, right), (right, left)):
        if isinstance(sized, _SIZED) and isinstance(count, int):
            check_size(len(sized) * count, _limit_of(sized))


def _check_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        check_size(left.bit_length() * abs(right), MAX_BITS)


def _check_replace(text: Any, old: Any, new: Any, *_: Any) -> None:
    if not isinstance(text, str) or not isinstance(old, str) or not isinstance(new, str):
        raise LimitExceeded("expected replace of text by text")
    size = len(text) + text.count(old) * max(0, len(new) - len(old))
    check_size(size, MAX_CHARS)


def _check_join(glue: Any, items: Any) -> None:
    if isinstance(items, list | tuple):
        check_items(items)
        size = sum(len(item) if isinstance(item, str | bytes) else 1 for item in items)
        check_size(size + len(str(glue)) * len(items), MAX_CHARS)


def _check_extend(items: Any, more: Any, *_: Any) -> None:
    if isinstance(more, (*_SIZED, dict)):
        check_size(len(items) + len(more), MAX_ITEMS)


_BINOP_CHECKS: dict[str, Callable[[Any, Any], None]] = {
    "+": _check_add,
    "*": _check_multiply,
    "**": _check_power,
    "%": _check_format,
}


def check_call(obj: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Look at a call of a method of a text or list before it is made.

    Raises
    ------
    LimitExceeded
    """
    method = getattr(obj, "__wrapped__", obj)  # Jinja wraps str.format
    if not isinstance(method, BuiltinMethodType):
        return
    owner, name = method.__self__, method.__name__
    if name in _PADDING:
        _check_width(*args, *kwargs.values())
    elif name in ("format", "format_map"):
        _check_format(owner, *args, **kwargs)
    elif name == "replace" and len(args) >= 2:
        _check_replace(owner, *args)
    elif name == "join" and args:
        _check_join(owner, args[0])
    elif name == "extend" and args:
        _check_extend(owner, *args)
    elif name == "translate":
        raise LimitExceeded("str.translate is not for templates")


def _check_sum(_: Any, attribute: Any = None, start: Any = 0) -> None:
    if not isinstance(start, int | float):
        raise LimitExceeded("expected sum of numbers")


def _check_filter_width(_: Any, *args: Any, **kwargs: Any) -> None:
    _check_width(*args, *kwargs.values())


def _check_join_filter(items: Any, d: Any = "", *_: Any, **__: Any) -> None:
    _check_join(d, items)


def _check_replace_filter(s: Any, old: Any, new: Any, *_: Any, **__: Any) -> None:
    _check_replace(s, old, new)


def _check_nested(value: Any, *_: Any, **__: Any) -> None:
    check_items(value)


def _check_text_width(value: Any, *args: Any, **kwargs: Any) -> None:
    check_items(value)
    _check_width(*args, *kwargs.values())


_PRINTING = "capitalize e escape forceescape lower pprint string striptags title trim upper urlize"
_FILTER_CHECKS: dict[str, Callable[..., None]] = {
    **dict.fromkeys(_PRINTING.split(), _check_nested),
    **dict.fromkeys(("center", "indent", "truncate", "wordwrap"), _check_text_width),
    "batch": _check_filter_width,
    "format": _check_format,
    "join": _check_join_filter,
    "replace": _check_replace_filter,
    "slice": _check_filter_width,
    "sum": _check_sum,
}


def guard_filters(filters: dict[str, Callable[..., Any]]) -> None:
    """Put a check in front of every filter that can make much from little."""
    for name in _FILTER_CHECKS:
        filters[name] = _guarded_filter(name, filters[name])


def check_binop(operator: str, left: Any, right: Any) -> None:
    """Look at the operands of `+`, `*`, `**` or `%` before the result is made.

    Raises
    ------
    LimitExceeded
    """
    _BINOP_CHECKS[operator](left, right)


def _guarded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    check = _FILTER_CHECKS[name]
    passes = getattr(function, "jinja_pass_arg", None)  # its first argument is not the value then

    def guarded(*args: Any, **kwargs: Any) -> Any:
        check(*args[0 if passes is None else 1 :], **kwargs)
        return function(*args, **kwargs)

    if passes is not None:
        guarded.jinja_pass_arg = passes  # type: ignore[attr-defined]
    return guarded
