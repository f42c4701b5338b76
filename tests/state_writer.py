"""Saves a growing sequence again and again, until it is killed. A test runs it as a process.

`python state_writer.py MODEL FILE`: goes on from the newest checkpoint of FILE, if there is one,
and prints the number of tokens before and after each save.
"""

import sys
from pathlib import Path

import jitllm
from jitllm.llm.state_files.file import StateFile
from jitllm.llm.state_files.pruning import prune

_MOST_TOKENS, _MOST_CHECKPOINTS = 300, 300


def main(model_path: str, file: Path) -> None:
    """Never returns."""
    with jitllm.load(model_path, device="reference", n_ctx=512, progress=False) as model:
        there = file.exists() and StateFile(file).checkpoints
        sequence = model.load_sequence(file) if there else model.sequence([1])
        while True:
            if len(sequence) > _MOST_TOKENS:
                sequence.truncate(5)
            sequence.append([len(sequence) % 400 + 3] * 2)
            _tell("saving", len(sequence))
            sequence.save(file, sync=False)
            _tell("saved", len(sequence))
            n_checkpoints = len(StateFile(file).checkpoints)
            if n_checkpoints > _MOST_CHECKPOINTS:
                prune(file, keep=range(n_checkpoints - 5, 1 << 40))


def _tell(word: str, n_tokens: int) -> None:
    sys.stdout.write(f"{word} {n_tokens}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
