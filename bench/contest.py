"""Processes of contestants, and rounds that alternate between them."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

LLAMA_VERSION = "0.3.36"
MIN_CORRELATION = 0.95  # of the contestants' logits; different activation rounding costs about 0.01


class Player:
    """A contestant in its own process, with one model loaded.

    Parameters
    ----------
    name : str
        "jitllm" or "llama.cpp".
    python : Path
        Interpreter that has the library.
    path : Path
        Model file.
    n_threads, n_ctx : int
    """

    def __init__(self, name: str, python: Path, path: Path, n_threads: int, n_ctx: int) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")
        script = Path(__file__).with_name("contestant.py")
        command = [str(python), "-P", str(script), name, str(path), str(n_threads), str(n_ctx)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        try:
            hello = self._answer()
        except BaseException:
            self.close()
            raise
        self.n_vocab, self.bos = int(hello["n_vocab"]), hello["bos"]
        self.version = str(hello["version"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"{self.name} stopped:\n{self._errors.read()[-2000:]}")
        return dict(json.loads(line))

    def play(self, tokens: list[int], n_prompt: int) -> dict[str, Any]:
        """Time one round."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"tokens": tokens, "n_prompt": n_prompt}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        with self._process, self._errors:  # leaving closes the pipes and waits
            pass


@dataclass
class Speeds:
    """Tokens per second of every round of one contestant in one case."""

    contestant: str
    case: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Middle of the rounds."""
        return statistics.median(self.values)


def tokens_for(player: Player, n: int) -> list[int]:
    """Return `n` random ids, the same every time; the first begins a text where there is such."""
    tokens = np.random.default_rng(0).integers(0, player.n_vocab, n).tolist()
    return [player.bos, *tokens[1:]] if player.bos is not None else tokens


def check_same(answers: dict[str, dict[str, Any]]) -> None:
    """Refuse to compare contestants that do not compute the same; `RuntimeError` says so."""
    logits = [np.array(answer["logits"]) for answer in answers.values()]
    correlation = float(np.corrcoef(logits[0], logits[1])[0, 1])
    if not correlation > MIN_CORRELATION:
        raise RuntimeError(
            f"expected the same logits of {' and '.join(answers)}, got a correlation of "
            f"{correlation:.3f}: no speed is reported"
        )


def compete(players: list[Player], n_prompt: int, n_decode: int, rounds: int) -> list[Speeds]:
    """Let the players take turns; the first round warms up, is checked and does not count."""
    tokens = tokens_for(players[0], n_prompt + n_decode)
    check_same({player.name: player.play(tokens, n_prompt) for player in players})
    cases = {"prompt_s": (f"pp{n_prompt}", n_prompt), "decode_s": (f"tg{n_decode}", n_decode)}
    speeds = {(p.name, key): Speeds(p.name, cases[key][0]) for key in cases for p in players}
    for i in range(rounds):
        for player in players if i % 2 == 0 else players[::-1]:
            answer = player.play(tokens, n_prompt)
            for key, (_, n) in cases.items():
                speeds[player.name, key].values.append(n / answer[key])
    return list(speeds.values())


def llama_python(folder: Path) -> Path:
    """Return an interpreter with llama-cpp-python, built from source for this machine if needed.

    Building takes minutes, a C++ compiler and CMake, which pip fetches.
    """
    home = folder / f"llama-cpp-python-{LLAMA_VERSION}"
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not (home / "ready").exists():
        print(f"building llama-cpp-python {LLAMA_VERSION} in {home}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        wanted = f"llama-cpp-python=={LLAMA_VERSION}"
        subprocess.run(
            [python, "-m", "pip", "install", "--no-binary", "llama-cpp-python", wanted],
            check=True,
            env=os.environ | {"CMAKE_ARGS": "-DGGML_NATIVE=ON -DCMAKE_BUILD_TYPE=Release"},
        )
        (home / "ready").touch()
    return python
