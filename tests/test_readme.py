"""The README's Python blocks run, in order and in one namespace, like the cells of a notebook."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parent.parent / "README.md"
# The mark is invisible on the page: <!-- run --> on the line before the block.
_BLOCK = re.compile(r"^<!-- run -->\n```python\n(?P<code>.*?)^```$", re.S | re.M)


def _blocks(text: str) -> list[tuple[int, str]]:
    """Line numbers and code of the blocks that are marked to run."""
    return [(text.count("\n", 0, m.start("code")) + 1, m["code"]) for m in _BLOCK.finditer(text)]


def test_blocks_are_found() -> None:
    text = "a\n<!-- run -->\n```python\nx = 1\n```\n\n```python\nnot this\n```\n"
    assert _blocks(text) == [(4, "x = 1\n")]


def test_readme_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = _blocks(README.read_text("utf-8"))
    assert blocks, "README.md has no Python block with <!-- run --> before it"
    namespace: dict[str, Any] = {"__name__": "readme"}
    for line, code in blocks:  # the empty lines make error messages show the README's line numbers
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile("\n" * (line - 1) + code, str(README), "exec"), namespace)
