"""What commands write while a model generates."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jitllm.llm.results import Timings


def write_chunk(text: str) -> None:
    """Write text to stdout so that it is seen at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def timings_text(timings: "Timings") -> str:
    """Return tokens, seconds and speed of a generation as one line."""
    return (
        f"prompt: {timings.prompt_tokens} tokens in {timings.prompt_s:.2f} s "
        f"({timings.prompt_tokens_per_s:.1f} t/s); "
        f"text: {timings.tokens} tokens in {timings.generation_s:.2f} s "
        f"({timings.tokens_per_s:.1f} t/s)"
    )
