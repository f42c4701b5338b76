"""Chats to text: the Jinja template that comes with a model."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from jitllm.llm.errors import ChatTemplateError
from jitllm.llm.tokenizer.vocabulary import Metadata

MAX_SOURCE = 1 << 20  # characters
_KEY = "tokenizer.chat_template"
_MAX_DEPTH = 100
_MAX_INDENT = 32
# what llama.cpp's converter may write in place of a template: a name that llama.cpp knows
_NAMED = {
    "rwkv-world": (
        "{% for message in messages %}{{ message['role'] | capitalize }}: "
        "{{ message['content'] | trim }}{{ '\n\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    )
}


def chat_template_names(metadata: Metadata) -> list[str]:
    """Names of the chat templates in a file; "default" is the one without a name."""
    named = [key.removeprefix(f"{_KEY}.") for key in metadata if key.startswith(f"{_KEY}.")]
    return (["default"] if _KEY in metadata else []) + sorted(named)


class ChatTemplate:
    """A chat template in Jinja, as Hugging Face tokenizers have them.

    It comes from a file that may be anybody's: it runs in a sandbox with bounds on time, steps
    and size, and sees copies of plain data only. jinja2 is imported at the first use.

    Parameters
    ----------
    source : str
    bos, eos : str
        Texts of the tokens that begin and end a text: `bos_token` and `eos_token`.
    name : str

    Raises
    ------
    ChatTemplateError
        If the source is too long.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "", name: str = "default") -> None:
        if len(source) > MAX_SOURCE:
            raise ChatTemplateError(
                f"chat template {name!r}: expected at most {MAX_SOURCE} characters, "
                f"got {len(source)}"
            )
        self.source = source
        self.bos = bos
        self.eos = eos
        self.name = name
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<ChatTemplate {self.name}: {len(self.source)} characters>"

    @classmethod
    def from_metadata(
        cls, metadata: Metadata, name: str | None = None, *, bos: str = "", eos: str = ""
    ) -> "ChatTemplate":
        """The template of a GGUF file; without a name the default one.

        Raises
        ------
        ChatTemplateError
            If the file has no such template.
        """
        named = name not in (None, "default")
        source = metadata.get(f"{_KEY}.{name}" if named else _KEY)
        if not isinstance(source, str):
            names = chat_template_names(metadata)
            has = f"it has {', '.join(names)}" if names else "it has none"
            raise ChatTemplateError(
                f"expected a chat template {name or 'default'!r} in the file, {has}; "
                "give the text of one as template=, or complete a prompt without a chat"
            )
        return cls(_NAMED.get(source, source), bos=bos, eos=eos, name=name or "default")

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """The prompt for a chat.

        Parameters
        ----------
        messages : sequence of mapping
            `role`, `content` and what else the template knows, OpenAI-shaped; plain data only.
        tools, documents : sequence of mapping, optional
        add_generation_prompt : bool
            End with the beginning of the assistant's answer.
        **variables
            Whatever else the template reads, such as `enable_thinking`; plain data only.

        Raises
        ------
        ChatTemplateError
            If the template does not compile, refuses the chat, or passes a bound.
        """
        plain = {key: _copy(value, key) for key, value in variables.items()}
        plain["messages"] = _copy(messages, "messages")
        environment, template = self._compiled
        plain["tools"] = environment.given("tools", _copy(tools, "tools"))
        plain["documents"] = environment.given("documents", _copy(documents, "documents"))
        # what FireFunction wants: the tools as text, and the time
        plain.setdefault("functions", _to_json(plain["tools"], indent=2) if tools else "")
        plain.setdefault("datetime", datetime.now().strftime("%b %d %Y %H:%M:%S"))
        plain |= {"bos_token": self.bos, "eos_token": self.eos}
        plain["add_generation_prompt"] = add_generation_prompt
        try:
            with self._lock:  # the budget is the environment's
                environment.start()
                text: str = template.render(plain)
        except Exception as error:
            raise self._error("refused the chat", error) from error
        return text

    @cached_property
    def _compiled(self) -> tuple[Any, Any]:
        from jitllm.llm.tokenizer.template_guard import GuardedEnvironment

        environment = GuardedEnvironment()
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _time_now
        try:
            return environment, environment.from_string(self.source)
        except Exception as error:
            raise self._error("does not compile", error) from error

    def _error(self, what: str, error: Exception) -> ChatTemplateError:
        line = getattr(error, "lineno", None)
        place = f" at line {line}" if line else ""
        detail = str(error) or type(error).__name__
        return ChatTemplateError(f"chat template {self.name!r} {what}{place}: {detail}")


def _copy(value: Any, where: str, depth: int = 0) -> Any:
    """Copy plain data: a template may change what it gets, and must get no other objects."""
    if depth > _MAX_DEPTH:
        raise ChatTemplateError(f"{where}: expected at most {_MAX_DEPTH} levels")
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {str(k): _copy(v, f"{where}.{k}", depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
    raise ChatTemplateError(
        f"{where}: expected text, numbers, lists and dicts, got {type(value).__name__}"
    )


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    from jitllm.llm.tokenizer.template_limits import check_items, check_size

    check_items(value)
    check_size(indent if isinstance(indent, int) else len(indent or ""), _MAX_INDENT)
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
        default=_listed,
    )


def _listed(value: Any) -> list[Any] | None:
    from jitllm.llm.tokenizer.template_guard import Absent

    if isinstance(value, Absent):
        return None
    if not isinstance(value, Iterator):  # filters such as map give generators
        raise TypeError(f"expected plain data for JSON, got {type(value).__name__}")
    return list(value)


def _raise(message: str) -> str:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _time_now(form: str) -> str:
    if len(form) > 100 or any(len(digits) > 2 for digits in _digit_runs(form)):
        raise ChatTemplateError(f"expected a short date format, got {form[:40]!r}")
    return datetime.now().strftime(form)


def _digit_runs(text: str) -> list[str]:
    return "".join(c if c.isdigit() else " " for c in text).split()
