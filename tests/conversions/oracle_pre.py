"""What llama.cpp's converter knows of pre-tokenizers, as JSON on standard output.

Arguments: convert_hf_to_gguf.py, then folders with tokenizers. "text" is the text that it has a
tokenizer encode; "names" its table of hashes; "hashes" the hash of each folder's tokenizer.
"""

import ast
import hashlib
import importlib
import inspect
import json
import sys
import textwrap
from pathlib import Path
from typing import Any


class _Recorder:
    """Stands where a tokenizer is expected, and keeps the text."""

    text = ""

    def encode(self, text: str) -> list[int]:
        self.text = text
        return []


def main(converter: str, *folders: str) -> None:
    """Write down what is known, for the tokenizers in `folders`."""
    sys.path.insert(0, str(Path(converter).parent))
    base: Any = importlib.import_module("conversion.base")
    transformers: Any = importlib.import_module("transformers")
    recorder = _Recorder()
    try:
        base.TextModel.get_vocab_base_pre(None, recorder)
    except NotImplementedError:
        pass
    hashes = {}
    for folder in folders:
        ids = transformers.AutoTokenizer.from_pretrained(folder).encode(recorder.text)
        hashes[Path(folder).name] = hashlib.sha256(str(ids).encode()).hexdigest()
    known = {"text": recorder.text, "names": _table(base), "hashes": hashes}
    sys.stdout.write(json.dumps(known))


def _table(base: Any) -> dict[str, str]:
    """The hashes that the function compares with; of equal ones the last counts."""
    source = textwrap.dedent(inspect.getsource(base.TextModel.get_vocab_base_pre))
    table = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Compare):
            right, done = node.test.comparators[0], node.body[0]
            if isinstance(right, ast.Constant) and isinstance(done, ast.Assign):
                table[str(right.value)] = str(ast.literal_eval(done.value))
    return table


if __name__ == "__main__":
    main(*sys.argv[1:])
