"""One side of the comparison of states; `state.py` starts it in its own process.

It prints one JSON object: for each case the seconds of each round, and bytes.
`python state_contestant.py NAME MODEL THREADS N_TOKENS N_STEPS ROUNDS`.
"""

import ctypes
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from contestant import Jitllm, LlamaCpp

Cases = dict[str, dict[str, Any]]

N_KEPT = 3
"""Earlier recurrent states that both keep: jitllm by default, llama.cpp if it is told to."""

_ONLY_STATES = 1  # of LLAMA_STATE_SEQ_FLAGS


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long something takes, and what it returns."""
    start = time.perf_counter()
    found = action()
    return time.perf_counter() - start, found


class Notes:
    """Seconds of all rounds by case, and bytes."""

    def __init__(self) -> None:
        self.cases: Cases = {}

    def add(self, case: str, seconds: float, nbytes: int = 0) -> None:
        """Note a round."""
        one = self.cases.setdefault(case, {"seconds": [], "bytes": 0})
        one["seconds"].append(seconds)
        one["bytes"] = nbytes


class JitllmStates(Jitllm):
    """jitllm's sequences."""

    def round(self, notes: Notes, tokens: list[int], steps: list[int], folder: Path) -> None:
        """Save, restore, save after every token, fork."""
        notes.add("compute", timed(partial(self.prompt, tokens))[0])
        for name, sync in (("", False), (", synced", True)):
            path = folder / f"whole{sync}"
            seconds, saved = timed(partial(self.sequence.save, path, sync=sync))
            notes.add(f"save{name}", seconds, saved.nbytes)
        seconds, loaded = timed(partial(self.model.load_sequence, path))
        notes.add("restore", seconds, path.stat().st_size)
        loaded.close()
        for name, sync in (("", False), (", synced", True)):
            with self.sequence.fork() as one:
                path = folder / f"steps{sync}"
                one.save(path, sync=False)
                for token in steps:
                    one.append([token])
                    seconds, saved = timed(partial(one.save, path, sync=sync))
                    notes.add(f"save after one token{name}", seconds, saved.nbytes)
        self._fork(notes, steps[0])
        if self.model.engine.slots:
            self._states(notes, steps[0])
        self.end()

    def _fork(self, notes: Notes, token: int) -> None:
        used = self.model.memory()["caches_used"]
        seconds, twin = timed(self.sequence.fork)
        notes.add("fork", seconds, self.model.memory()["caches_used"] - used)
        twin.append([token])
        notes.add("fork, written to", 0.0, self.model.memory()["caches_used"] - used)
        twin.close()

    def _states(self, notes: Notes, token: int) -> None:
        """Keep recurrent states, go back to them, and to one token before the last."""
        slots, sequence = self.model.engine.slots, self.sequence
        size = slots.pool.slot_bytes
        notes.add("state", 0.0, size)
        notes.add(f"state and {N_KEPT} earlier ones", 0.0, (N_KEPT + 1) * size)
        notes.add("keep the state", timed(sequence.checkpoint)[0])
        sequence.append([token])
        notes.add("go back to it", timed(sequence.rollback)[0])
        twin, last = sequence.fork(), sequence.token_ids[-1]
        again = timed(lambda: twin.truncate(len(twin) - 1).append([last]))[0]
        notes.add("compute the last token again", again)
        twin.close()


class LlamaCppStates(LlamaCpp):
    """llama.cpp's sequences: sequence 0 is saved, restored and copied to sequence 1."""

    def __init__(self, path: str, n_threads: int, n_ctx: int) -> None:
        super().__init__(path, n_threads, 64)
        settings = self.api.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch = n_ctx, 512, 512
        settings.n_threads = settings.n_threads_batch = n_threads
        settings.n_seq_max, settings.kv_unified, settings.n_rs_seq = 2, True, N_KEPT
        self.api.llama_free(self.context)
        self.context = self.api.llama_init_from_model(self.model, settings)

    def round(self, notes: Notes, tokens: list[int], steps: list[int], folder: Path) -> None:
        """Save, restore, save after every token, copy."""
        api, path = self.api, folder / "whole"
        memory = api.llama_get_memory(self.context)
        notes.add("compute", timed(lambda: self.prompt(tokens))[0])
        seconds, nbytes = timed(lambda: self._save(path, tokens))
        notes.add("save", seconds, nbytes)
        notes.add("save, synced", seconds + self._sync(path), nbytes)
        seconds, nbytes = timed(lambda: self._load(path, len(tokens)))
        notes.add("restore", seconds, nbytes)
        read = list(tokens)
        for token in steps:
            self.decode(token)
            read.append(token)
            seconds, nbytes = timed(lambda: self._save(path, read))
            notes.add("save after one token", seconds, nbytes)
            notes.add("save after one token, synced", seconds + self._sync(path), nbytes)
        notes.add("fork", timed(lambda: api.llama_memory_seq_cp(memory, 0, 1, -1, -1))[0])
        api.llama_memory_seq_rm(memory, 1, -1, -1)
        if api.llama_model_is_recurrent(self.model) or api.llama_model_is_hybrid(self.model):
            self._states(notes, read)

    def _states(self, notes: Notes, tokens: list[int]) -> None:
        """Copy recurrent states out and back, as its server does, and drop the last token."""
        api, context = self.api, self.context
        size = api.llama_state_seq_get_size_ext(context, 0, _ONLY_STATES)
        room = (ctypes.c_uint8 * size)()
        notes.add("state", 0.0, size)
        n_planes = 1 + api.llama_n_rs_seq(context)
        notes.add(f"state and {N_KEPT} earlier ones", 0.0, n_planes * size if n_planes > 1 else 0)
        keep, back = api.llama_state_seq_get_data_ext, api.llama_state_seq_set_data_ext
        notes.add("keep the state", timed(lambda: keep(context, room, size, 0, _ONLY_STATES))[0])
        notes.add("go back to it", timed(lambda: back(context, room, size, 0, _ONLY_STATES))[0])
        if n_planes > 1:
            self.decode(tokens[-1])
            again = timed(lambda: self._decode_again(len(tokens), tokens[-1]))[0]
            notes.add("compute the last token again", again)

    def _decode_again(self, position: int, token: int) -> None:
        memory = self.api.llama_get_memory(self.context)
        if not self.api.llama_memory_seq_rm(memory, 0, position, -1):
            raise RuntimeError("llama_memory_seq_rm failed")
        self.decode(token)

    def end(self) -> None:
        """Forget the tokens."""
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), False)

    def _save(self, path: Path, tokens: list[int]) -> int:
        array = (self.api.llama_token * len(tokens))(*tokens)
        n = self.api.llama_state_seq_save_file(self.context, bytes(path), 0, array, len(tokens))
        return int(n)

    def _load(self, path: Path, n_tokens: int) -> int:
        array, found = (self.api.llama_token * n_tokens)(), ctypes.c_size_t()
        n = self.api.llama_state_seq_load_file(
            self.context, bytes(path), 0, array, n_tokens, ctypes.byref(found)
        )
        if not n or found.value != n_tokens:
            raise RuntimeError("llama_state_seq_load_file failed")
        return int(n)

    def _sync(self, path: Path) -> float:
        with open(path, "rb+") as file:
            return timed(lambda: os.fsync(file.fileno()))[0]


def main() -> None:
    """Run all rounds and print what they took."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the library may write to stdout
    name, path, *numbers = sys.argv[1:]
    n_threads, n_tokens, n_steps, rounds = map(int, numbers)
    kinds: dict[str, Any] = {"jitllm": JitllmStates, "llama.cpp": LlamaCppStates}
    side = kinds[name](path, n_threads, -(-(n_tokens + n_steps + 64) // 256) * 256 * 2)
    random = importlib.import_module("random").Random(1)
    n_vocab = side.n_vocab
    tokens = [side.bos or 0, *(random.randrange(n_vocab) for _ in range(n_tokens - 1))]
    steps = [random.randrange(n_vocab) for _ in range(n_steps)]
    notes = Notes()
    for i in range(rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            side.round(notes if i else Notes(), tokens, steps, Path(folder))  # the first warms up
    print(json.dumps(notes.cases), file=answers, flush=True)


if __name__ == "__main__":
    main()
