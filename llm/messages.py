"""Messages of a chat as callers give them: checked, texts joined, ready for a template."""

from collections.abc import Mapping, Sequence
from typing import Any

from jitllm.llm.errors import ChatTemplateError

_EXAMPLE = '[{"role": "user", "content": "Hello"}]'
_WITHOUT_CONTENT = ("tool_calls", "function_call", "reasoning_content", "thinking")


def checked_messages(messages: Any) -> list[dict[str, Any]]:
    """Return messages as new mappings whose content is text.

    Parameters
    ----------
    messages : sequence of mapping
        OpenAI-shaped. Content may be a list of parts {"type": "text", "text": ...}: their texts are
        joined by newlines. It may be None or absent where a message holds calls of tools instead.

    Raises
    ------
    TypeError
        If this is no sequence of mappings.
    ChatTemplateError
        If there is no message, or one lacks its role or content, or has parts that are no text.
    """
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
        what = "one mapping" if isinstance(messages, Mapping) else type(messages).__name__
        raise TypeError(f"expected a list of messages such as {_EXAMPLE}, got {what}")
    if not messages:
        raise ChatTemplateError(f"expected messages such as {_EXAMPLE}, got none")
    return [_checked(message, i) for i, message in enumerate(messages)]


def _checked(message: Any, i: int) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise TypeError(
            f"message {i}: expected a mapping such as {_EXAMPLE[1:-1]}, got {message!r:.80}"
        )
    if not isinstance(message.get("role"), str):
        raise ChatTemplateError(f"message {i}: expected a role, a text; got {message!r:.80}")
    content = message.get("content")
    if content is None and any(message.get(key) for key in _WITHOUT_CONTENT):
        return dict(message)  # templates tell a missing content from an empty one
    return {**message, "content": _text(content, i)}


def _text(content: Any, i: int) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        got = "none" if content is None else type(content).__name__
        raise ChatTemplateError(
            f"message {i}: expected its content as text or a list of text parts, got {got}"
        )
    return "\n".join(_part(part, i) for part in content)


def _part(part: Any, i: int) -> str:
    text = part.get("text") if isinstance(part, Mapping) else part
    if not isinstance(text, str):
        kind = part.get("type", "one without a type") if isinstance(part, Mapping) else part
        raise ChatTemplateError(
            f'message {i}: expected parts {{"type": "text", "text": ...}}, got {kind!r:.80}; '
            "models here read only text"
        )
    return text
