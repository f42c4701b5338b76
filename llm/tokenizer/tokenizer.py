"""Text to token ids and back, by the rules in a model's file."""

import logging
import re
from collections.abc import Iterable
from functools import cached_property

from jitllm.llm.tokenizer.base import BaseEncoder, Frame
from jitllm.llm.tokenizer.chat_template import ChatTemplate
from jitllm.llm.tokenizer.partition import Partition
from jitllm.llm.tokenizer.special import find_special_tokens
from jitllm.llm.tokenizer.stream import TextStream
from jitllm.llm.tokenizer.vocabulary import Metadata, TokenType, read_flag

_logger = logging.getLogger("jitllm.tokenizer")

_ADDED = ("add_bos", "add_eos", "add_sep")
_SPACE_BEFORE_MARK = re.compile(r" (?=[?!.,])")
_LONE_APOSTROPHE = re.compile(r" ' ")
_SPACE_BEFORE_CONTRACTION = re.compile(r" (?='(?:s|m|re|ve))")


class Tokenizer:
    """The tokenizer of a model. `Tokenizer.from_metadata` makes one.

    Parameters
    ----------
    kind : str
        The value of `tokenizer.ggml.model`.
    encoder : BaseEncoder
    metadata : mapping
        Of the GGUF file.

    Attributes
    ----------
    kind : str
    special : SpecialTokens
        All ids with a meaning; the commonest are attributes here too.
    n_vocab : int
    add_bos, add_eos : bool
        Whether `encode` puts the ids of beginning and end around a text.
    bos_id, eos_id, eot_id, eom_id, unk_id, sep_id, pad_id : int or None
    eog_ids : frozenset of int
        All ids that end a generation.
    suppress_ids : tuple of int
        Ids that the file forbids to sample.
    """

    def __init__(self, kind: str, encoder: BaseEncoder, metadata: Metadata) -> None:
        self.kind = kind
        self.encoder = encoder
        self.vocabulary = encoder.vocabulary
        self.n_vocab = len(encoder.vocabulary)
        rules = encoder.rules
        self.special = special = find_special_tokens(self.vocabulary, metadata, rules)
        self.bos_id, self.eos_id = special.bos, special.eos
        self.eot_id, self.eom_id = special.eot, special.eom
        self.unk_id, self.sep_id, self.pad_id = special.unk, special.sep, special.pad
        self.eog_ids = special.eog
        self.suppress_ids = special.suppress
        flags = {name: _flag(metadata, f"{name}_token", getattr(rules, name)) for name in _ADDED}
        self.add_bos = rules.framed and (rules.force_bos or flags["add_bos"])
        self.add_eos = rules.framed and flags["add_eos"]
        self.add_sep = rules.framed and (rules.force_sep or flags["add_sep"])
        self._check_added()
        self._drops_first_space = _flag(metadata, "add_space_prefix", rules.add_space_prefix)
        self._rules = rules
        self._metadata = metadata
        self._pieces: dict[int, bytes] = {}

    @staticmethod
    def from_metadata(metadata: Metadata) -> "Tokenizer | None":
        """The tokenizer in a file's metadata, or None when the file has none.

        Raises
        ------
        UnsupportedTokenizer
            If the kind or the pre-tokenizer is not known; the message lists those that are.
        ModelFormatError
            If what the kind needs is missing or damaged.
        """
        from jitllm.llm.tokenizer.registry import build_tokenizer

        return build_tokenizer(metadata)

    def __repr__(self) -> str:
        name = "/".join(part for part in (self.kind, self.encoder.variant) if part)
        return (
            f"<Tokenizer {name}: {self.n_vocab} tokens, bos {self.bos_id}, eos {self.eos_id}, "
            f"{len(self.eog_ids)} end a generation>"
        )

    def encode(
        self,
        text: str,
        *,
        add_special: bool = True,
        parse_special: bool = True,
        at_start: bool = True,
    ) -> list[int]:
        """Ids of a text.

        Parameters
        ----------
        text : str
        add_special : bool
            Put the ids of beginning and end around it where the model wants them.
        parse_special : bool
            Read `<|im_start|>` and the like as tokens; False for text of strangers.
        at_start : bool
            Where the model puts a space before a text, put it. False for text that goes on
            where other text ended.

        Raises
        ------
        ValueError
            If the text holds a lone surrogate, which is no character.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"expected text, got a lone surrogate at index {error.start}; "
                "remove it or decode the bytes with errors='replace'"
            ) from error
        ids: list[int] = []
        after_special = at_start
        for fragment in self._partition.split(text, parse_special):
            if isinstance(fragment, int):
                ids.append(fragment)
                after_special = True
            else:
                ids += self.encoder.encode(fragment, after_special)
                after_special = False
        return self._framed(ids) if add_special else ids

    def decode(
        self,
        ids: Iterable[int],
        *,
        skip_special: bool = False,
        at_start: bool = True,
        clean_spaces: bool = False,
    ) -> str:
        """Text of ids; bytes that are no UTF-8 become U+FFFD.

        Parameters
        ----------
        ids : iterable of int
        skip_special : bool
            Leave out control and unknown tokens.
        at_start : bool
            The ids begin a text: where encoding puts a space before a text, the first id loses
            it. False when they go on where other ids ended.
        clean_spaces : bool
            Remove spaces before punctuation if the model's file kind asks for it.
        """
        data = self.decode_bytes(ids, skip_special=skip_special, at_start=at_start)
        text = data.decode("utf-8", "replace")
        return _clean(text) if clean_spaces and self._rules.clean_spaces else text

    def decode_bytes(
        self, ids: Iterable[int], *, skip_special: bool = False, at_start: bool = True
    ) -> bytes:
        """Bytes of ids; the arguments are those of `decode`.

        Raises
        ------
        ValueError
            If an id is not in the vocabulary.
        """
        pieces = [self._piece(token, skip_special) for token in ids]
        if at_start and pieces and self._drops_first_space:
            pieces[0] = pieces[0].removeprefix(b" ")
        return b"".join(pieces)

    def token_bytes(self, token: int) -> bytes:
        """The bytes that one id stands for, special or not.

        Raises
        ------
        ValueError
            If the id is not in the vocabulary.
        """
        data = self._pieces.get(token)
        if data is None:
            if not 0 <= token < self.n_vocab:
                raise ValueError(f"expected an id from 0 to {self.n_vocab - 1}, got {token}")
            data = self._pieces[int(token)] = self.encoder.token_bytes(token)
        return data

    def stream(self, *, skip_special: bool = False, at_start: bool = True) -> TextStream:
        """Decodes ids one at a time; the arguments are those of `decode`.

        Text that goes on after a prompt wants `at_start=False`.
        """
        drops = at_start and self._drops_first_space

        def piece(token: int, first: bool) -> bytes:
            data = self._piece(token, skip_special)
            return data.removeprefix(b" ") if first and drops else data

        return TextStream(piece)

    def chat_template(self, name: str | None = None) -> ChatTemplate:
        """The chat template in the model's file; without a name the default one.

        Raises
        ------
        ChatTemplateError
            If the file has no such template.
        """
        bos, eos = (
            "" if token is None else self.vocabulary.tokens[token]
            for token in (self.bos_id, self.eos_id)
        )
        return ChatTemplate.from_metadata(self._metadata, name, bos=bos, eos=eos)

    def is_special(self, token: int) -> bool:
        """Whether the id is a control or unknown token, which `skip_special` leaves out."""
        return int(self.vocabulary.types[token]) in (TokenType.CONTROL, TokenType.UNKNOWN)

    @cached_property
    def nl_id(self) -> int | None:
        """The id of a newline, or of its first part; the kind's padding id where it has none."""
        token = self.encoder.newline_id()
        return self._rules.pad if token is None else token

    @cached_property
    def _partition(self) -> Partition:
        return Partition(self.vocabulary, self._metadata)

    def _piece(self, token: int, skip_special: bool) -> bytes:
        data = self.token_bytes(token)
        return b"" if skip_special and self.is_special(token) else data

    def _framed(self, ids: list[int]) -> list[int]:
        if self.add_bos and ids[:1] == [self.bos_id]:
            _logger.warning("the text begins with the token that is added before it: now twice")
        frame = Frame(
            self.bos_id if self.add_bos else None,
            self.eos_id if self.add_eos else None,
            self.sep_id if self.add_sep else None,
        )
        return self.encoder.frame(ids, frame)

    def _check_added(self) -> None:
        if self.add_bos and self.bos_id is None:
            _logger.warning("the file asks for a beginning-of-text token but names none: not added")
            self.add_bos = False
        if self.add_eos and self.eos_id is None:
            _logger.warning("the file asks for an end-of-text token but names none: not added")
            self.add_eos = False
        if self.add_sep and self.sep_id is None:
            _logger.warning("the file asks for a separator token but names none: not added")
            self.add_sep = False


def _flag(metadata: Metadata, key: str, default: bool) -> bool:
    return read_flag(metadata, f"tokenizer.ggml.{key}", default)


def _clean(text: str) -> str:
    text = _SPACE_BEFORE_MARK.sub("", text)
    text = _LONE_APOSTROPHE.sub("'", text)
    return _SPACE_BEFORE_CONTRACTION.sub("", text)
