"""Cutting special tokens out of a text before the rest is encoded."""

from collections.abc import Mapping

from jitllm.llm.tokenizer.vocabulary import Metadata, TokenType, Vocabulary

_SPACE = " \t\n\v\f\r"
_PREFIX = 4  # characters; thousands of unused tokens share them, so one search rules out all


class Partition:
    """Finds special tokens in a text: the longest first over the whole text, then the next.

    Control and unknown tokens count only on demand, user-defined ones always. Some models let
    a token swallow the white space before it or after it; files do not say so, names do.

    Parameters
    ----------
    vocabulary : Vocabulary
        With its types corrected by `find_special_tokens`.
    metadata : mapping
        Of the GGUF file.
    """

    def __init__(self, vocabulary: Vocabulary, metadata: Metadata) -> None:
        control = vocabulary.ids_of_types(TokenType.CONTROL, TokenType.UNKNOWN)
        user = vocabulary.ids_of_types(TokenType.USER_DEFINED)
        tokens = vocabulary.tokens
        everything = sorted(
            [*control, *user], key=lambda i: -len(tokens[i].encode("utf-8", "replace"))
        )
        self._user = frozenset(user)
        self._order = {tokens[i]: i for i in everything}
        self._groups: dict[str, list[str]] = {}
        for text in self._order:
            self._groups.setdefault(text[:_PREFIX], []).append(text)
        self._lstrip, self._rstrip = _strips(vocabulary.ids, everything, metadata)

    def split(self, text: str, parse_special: bool) -> list[str | int]:
        """Cut a text into stretches of text and ids of special tokens.

        Parameters
        ----------
        text : str
        parse_special : bool
            Whether control and unknown tokens count; otherwise they are text.
        """
        fragments: list[str | int] = [text] if text else []
        for special in self._present(text):
            token = self._order[special]
            if parse_special or token in self._user:
                fragments = self._cut(fragments, special, token)
        return fragments

    def _present(self, text: str) -> list[str]:
        hits = [
            special
            for prefix, group in self._groups.items()
            if prefix in text
            for special in group
            if special in text
        ]
        position = {special: i for i, special in enumerate(self._order)} if len(hits) > 1 else {}
        return sorted(hits, key=lambda special: position.get(special, 0))

    def _cut(self, fragments: list[str | int], special: str, token: int) -> list[str | int]:
        out: list[str | int] = []
        for fragment in fragments:
            if isinstance(fragment, int) or special not in fragment:
                out.append(fragment)
                continue
            pieces = fragment.split(special)
            for i, piece in enumerate(pieces):
                if i:
                    out.append(token)
                    piece = piece.lstrip(_SPACE) if token in self._rstrip else piece
                if i + 1 < len(pieces) and token in self._lstrip:
                    piece = piece.rstrip(_SPACE)
                if piece:
                    out.append(piece)
        return out


def _strips(
    ids: Mapping[str, int], special: list[int], metadata: Metadata
) -> tuple[frozenset[int], frozenset[int]]:
    pre = str(metadata.get("tokenizer.ggml.pre", ""))
    architecture = str(metadata.get("general.architecture", ""))
    name = str(metadata.get("general.name", "")).lower()
    left: set[int] = set()
    right: set[int] = set()
    if any(n in pre for n in ("jina-v2-de", "jina-v2-es", "jina-v2-code")) or any(
        n in architecture for n in ("nomic-bert-moe", "jina-bert-v3")
    ):
        left = {ids[t] for t in ("<mask>",) if t in ids}
    elif "phi-3" in name or "phi3" in name:
        right = {*special, *(ids[t] for t in ("</s>",) if t in ids)}
        right -= {ids[t] for t in ("<unk>", "<s>", "<|endoftext|>") if t in ids}
    elif "modern-bert" in name:
        left = {ids[t] for t in ("[MASK]",) if t in ids}
    return frozenset(left), frozenset(right)
