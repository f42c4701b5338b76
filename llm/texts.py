"""Texts and chats to token ids and back, for a model that may have no tokenizer."""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jitllm.llm.errors import UnsupportedTokenizer
from jitllm.llm.messages import checked_messages
from jitllm.llm.tokenizer.chat_template import ChatTemplate
from jitllm.llm.tokenizer.stream import TextStream
from jitllm.llm.tokenizer.tokenizer import Tokenizer

Text = str | Iterable[int]
Prompts = Text | list[str] | list[list[int]]


def is_many(prompt: Any) -> bool:
    """Return whether this is a list of prompts, not one: a list of texts or of lists of ids."""
    if isinstance(prompt, str) or not isinstance(prompt, Sequence | np.ndarray):
        return False
    return any(not isinstance(item, int | np.integer) for item in prompt)


class Texts:
    """What a model knows of texts.

    Parameters
    ----------
    tokenizer : Tokenizer or None
    metadata : mapping
        Of the GGUF file.
    n_vocab : int
        Columns of the logits.
    tokenizer_error : str
        Why there is no tokenizer.

    Attributes
    ----------
    eog_ids : frozenset of int
        All ids that end a generation.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        metadata: Mapping[str, Any],
        n_vocab: int,
        tokenizer_error: str = "",
    ) -> None:
        self.tokenizer, self.metadata, self.n_vocab = tokenizer, metadata, n_vocab
        self._tokenizer_error = tokenizer_error
        self.eog_ids = frozenset[int]() if tokenizer is None else tokenizer.eog_ids
        self._breakers: Callable[[str], Iterable[Sequence[int]]] | None = None

    @property
    def has_chat_template(self) -> bool:
        """Whether the file has a chat template."""
        return isinstance(self.metadata.get("tokenizer.chat_template"), str)

    def tokenize(
        self,
        text: str,
        *,
        add_special: bool = True,
        parse_special: bool = True,
        at_start: bool = True,
    ) -> list[int]:
        """Return the token ids of a text.

        Parameters
        ----------
        text : str
        add_special : bool
            Put the tokens of beginning and end around it where the model wants them.
        parse_special : bool
            Read texts such as `<|im_start|>` as tokens; False for text of strangers.
        at_start : bool
            Where the model puts a space before a text, put it. False for text that goes on
            where other text ended.
        """
        if not isinstance(text, str):
            raise TypeError(f"expected a text, got {text!r:.80}")
        tokenizer = self.need_tokenizer("a text")
        return tokenizer.encode(
            text, add_special=add_special, parse_special=parse_special, at_start=at_start
        )

    def detokenize(self, ids: Iterable[int]) -> str:
        """Return the text of token ids, with the texts of special ones."""
        return self.need_tokenizer("token ids to a text").decode(ids)

    def to_ids(self, tokens: Text, *, add_special: bool = True, at_start: bool = True) -> list[int]:
        """Return checked token ids.

        Parameters
        ----------
        tokens : str or ids
        add_special : bool
            For a text: put the tokens of beginning and end around it where the model wants them.
        at_start : bool
            For a text: False if it goes on where other text ended.

        Raises
        ------
        TypeError
            If these are no ids.
        ValueError
            If an id is not in the vocabulary.
        """
        if isinstance(tokens, str):
            return self.tokenize(tokens, add_special=add_special, at_start=at_start)
        try:
            if isinstance(tokens, bytes | bytearray | Mapping):  # they would pass as ids
                raise TypeError
            ids = [operator.index(token) for token in tokens]
        except TypeError as error:
            raise TypeError(f"expected a text or token ids, got {tokens!r:.80}") from error
        if ids and not 0 <= min(ids) <= max(ids) < self.n_vocab:
            wrong = next(token for token in ids if not 0 <= token < self.n_vocab)
            raise ValueError(f"expected ids from 0 to {self.n_vocab - 1}, got {wrong}")
        return ids

    def to_prompts(self, prompt: Prompts) -> list[list[int]]:
        """Return the ids of one prompt or of each of a list.

        Raises
        ------
        ValueError
            If a prompt has no tokens.
        """
        many: Iterable[Any] = prompt if is_many(prompt) else [prompt]
        prompts = [self.to_ids(one) for one in many]
        for i, ids in enumerate(prompts):
            if not ids:
                which = f"none in prompt {i}" if is_many(prompt) else "an empty prompt"
                raise ValueError(f"expected a prompt with tokens, got {which}")
        return prompts

    def chat_text(
        self, messages: Any, template: str | None = None, **variables: Any
    ) -> tuple[str, ChatTemplate]:
        """Return the prompt of a chat, and the template that wrote it.

        Parameters
        ----------
        messages : sequence of mapping
        template : str, optional
            The text of one; without it that of the file.
        **variables
            What the template reads.

        Raises
        ------
        ChatTemplateError
        """
        checked = checked_messages(messages)
        found = self._template(template)
        return found.render(checked, **variables), found

    def _template(self, source: str | None) -> ChatTemplate:
        tokenizer = self.need_tokenizer("a chat")
        if source is None:
            return tokenizer.chat_template()
        if not isinstance(source, str):
            raise TypeError(f"expected the text of a template, got {type(source).__name__}")
        bos, eos = (
            "" if token is None else tokenizer.vocabulary.tokens[token]
            for token in (tokenizer.bos_id, tokenizer.eos_id)
        )
        return ChatTemplate(source, bos=bos, eos=eos, name="given")

    def chat_ids(self, text: str) -> list[int]:
        """Return the ids of a chat that a template wrote: one token of beginning, no end."""
        tokenizer = self.need_tokenizer("a chat")
        ids = tokenizer.encode(text, add_special=False)
        if tokenizer.add_bos and tokenizer.bos_id is not None and ids[:1] != [tokenizer.bos_id]:
            ids.insert(0, tokenizer.bos_id)
        return ids

    def token_text(self, token: int) -> str:
        """Return the text of one token; "" without a tokenizer."""
        if self.tokenizer is None:
            return ""
        return self.tokenizer.token_bytes(token).decode("utf-8", "replace")

    def text_stream(self, *, at_start: bool = False) -> TextStream:
        """Return what turns generated ids into text; the text is empty without a tokenizer.

        `at_start`: nothing stands before the text, so it begins without a space of its first word.
        """
        if self.tokenizer is None:
            return TextStream(lambda token, is_first: b"")
        return self.tokenizer.stream(skip_special=True, at_start=at_start)

    def has_token(self, text: str) -> bool:
        """Return whether a token has exactly this text."""
        return self.tokenizer is not None and text in self.tokenizer.vocabulary.ids

    def token_ids_for_text(self, text: str) -> Iterable[Sequence[int]]:
        """Return all token sequences that spell a text, for DRY's sequence breakers."""
        if self._breakers is None:
            from jitllm.llm.sampling import BreakerIndex

            tokenizer = self.need_tokenizer("sequence breakers")
            pieces = [tokenizer.token_bytes(token) for token in range(tokenizer.n_vocab)]

            def encode(data: bytes) -> list[int]:
                text = data.decode("utf-8", "replace")
                return tokenizer.encode(text, add_special=False, parse_special=False)

            self._breakers = BreakerIndex(pieces, encode)
        return self._breakers(text)

    def forget_tokenizer(self) -> None:
        """Drop the tokenizer, whose large vocabulary is the most that Python objects take."""
        self.tokenizer = self._breakers = None

    def need_tokenizer(self, what: str) -> Tokenizer:
        """Return the tokenizer.

        Raises
        ------
        UnsupportedTokenizer
            If there is none: `what` cannot be used then.
        """
        if self.tokenizer is None:
            why = self._tokenizer_error or "the model's file has no tokenizer"
            raise UnsupportedTokenizer(f"expected token ids, got {what}: {why}")
        return self.tokenizer
