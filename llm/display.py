"""How objects look in a notebook: HTML that escapes everything, and text shown while it comes."""

import importlib
import sys
import time
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jitllm.llm.model import Model
    from jitllm.llm.results import Generation, TokenLogprob
    from jitllm.llm.state.sequence import Sequence as TokenSequence

_REFRESH_S = 0.05
_IMPROBABLE = 6.0  # tokens of logprob -6 and less are coloured fully
_TEXT_STYLE = "white-space:pre-wrap;font-family:inherit"
_MAX_SHOWN = 20_000  # characters of a sequence


def table_html(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; all texts are escaped."""

    def line(tag: str, cells: Iterable[str]) -> str:
        inner = "".join(
            f'<{tag} style="text-align:left">{escape(str(cell))}</{tag}>' for cell in cells
        )
        return f"<tr>{inner}</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', head)}</thead><tbody>{body}</tbody></table>"


def model_html(model: "Model") -> str:
    """Return a model's facts as a table."""
    return table_html(("model", model.identity.name), model.facts().items())


def sequence_html(sequence: "TokenSequence") -> str:
    """Return a sequence's length, bytes and text."""
    text = ""
    if sequence.model.tokenizer is not None:
        shown = sequence.text[-_MAX_SHOWN:]
        text = f'<pre style="{_TEXT_STYLE}">{escape(shown)}</pre>'
    return f"<div>{escape(repr(sequence))}{text}</div>"


def generation_html(result: "Generation") -> str:
    """Return the text, its tokens coloured by how improbable they were if logprobs are there."""
    if result.logprobs is None:
        body = escape(result.text)
    else:
        body = "".join(_token_html(entry) for entry in result.logprobs)
    foot = (
        f"{result.usage.completion_tokens} tokens, {result.finish_reason}, "
        f"{result.timings.tokens_per_s:.1f} tokens/s"
    )
    return f'<div><div style="{_TEXT_STYLE}">{body}</div><small>{escape(foot)}</small></div>'


def _token_html(entry: "TokenLogprob") -> str:
    logprob = entry.logprob or 0.0
    strength = 0.6 * min(1.0, abs(logprob) / _IMPROBABLE)
    top = [f"{text!r} {value:.3f}" for _, text, value in entry.top[:5]]
    title = escape("\n".join([f"{entry.token!r} {logprob:.3f}", *top]), quote=True)
    style = f"background:rgba(220,50,30,{strength:.3f})"
    return f'<span style="{style}" title="{title}">{escape(entry.token)}</span>'


class LiveText:
    """Shows text while it comes: one display that is updated in a notebook, else on stdout."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._shown = 0.0
        self._handle: Any = None
        if in_notebook():
            self._handle = _ipython().display(self._content(), display_id=True)

    def put(self, text: str) -> None:
        """Add text; a notebook is updated at most 20 times a second."""
        self._parts.append(text)
        if self._handle is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        elif time.monotonic() - self._shown >= _REFRESH_S:
            self._update()

    def __enter__(self) -> "LiveText":
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is None:
            sys.stdout.write("\n")
        else:
            self._update()

    def _update(self) -> None:
        self._handle.update(self._content())
        self._shown = time.monotonic()

    def _content(self) -> Any:
        text = escape("".join(self._parts))
        return _ipython().HTML(f'<div style="{_TEXT_STYLE}">{text}</div>')


def _ipython() -> Any:
    return importlib.import_module("IPython.display")


def in_notebook() -> bool:
    """Return whether output goes to a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")
