"""Text that appears while it is generated, and what the generation took."""

import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jitllm.llm.api import Model, Sequence


@dataclass
class Times:
    """Tokens and seconds of a prompt and of what followed it."""

    prompt_tokens: int = 0
    prompt_s: float = 0.0
    completion_tokens: int = 0
    completion_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers by name."""
        return asdict(self)

    def __str__(self) -> str:
        return "; ".join(
            f"{what} {n} tokens in {s:.2f} s ({n / s if s else 0:.1f} t/s)"
            for what, n, s in (
                ("prompt", self.prompt_tokens, self.prompt_s),
                ("text", self.completion_tokens, self.completion_s),
            )
        )


def read_prompt(model: "Model", prompt: str | list[int], times: Times) -> "Sequence":
    """Return a sequence that has read the prompt; the time goes to `times`."""
    start = time.perf_counter()
    sequence = model.sequence(prompt)
    _ = sequence.logits  # a lazy reader would leave its work to the first token
    times.prompt_s = time.perf_counter() - start
    times.prompt_tokens = len(sequence)
    return sequence


def write_chunks(chunks: Iterable[Any]) -> str:
    """Write the text of chunks to stdout as they come; returns the text."""
    written: list[str] = []
    for chunk in chunks:
        sys.stdout.write(chunk.text)
        sys.stdout.flush()
        written.append(chunk.text)
    return "".join(written)
