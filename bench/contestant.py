"""One side of a comparison: loads a model once, then times rounds on request.

Runs in its own process, started by `compare.py` with the interpreter that has the library. One
JSON object per line comes on stdin and one goes back on stdout. Both sides get the same token ids,
do the same work and choose nothing: the tokens to decode are given, so no sampling is timed.
"""

import importlib
import json
import os
import sys
import time
from typing import Any


class Jitllm:
    """jitllm through its public API."""

    def __init__(self, path: str, n_threads: int, n_ctx: int) -> None:
        jitllm = importlib.import_module("jitllm")
        self.version = jitllm.__version__
        self.model = jitllm.load(path, n_ctx=n_ctx, n_threads=n_threads, progress=False)
        tokenizer, self.n_vocab = self.model.tokenizer, self.model.n_vocab
        self.bos = tokenizer.bos_id if tokenizer else None

    def prompt(self, tokens: list[int]) -> Any:
        """Read a prompt with an empty cache; returns the logits of its last token."""
        self.sequence = self.model.sequence(tokens)
        return self.sequence.logits

    def decode(self, token: int) -> Any:
        """Read one more token; the logits are there when this returns."""
        self.sequence.append([token])
        return self.sequence.logits

    def end(self) -> None:
        """Forget the tokens."""
        self.sequence.close()


class LlamaCpp:
    """llama.cpp by its C functions, as llama-cpp-python binds them, with llama-bench's settings."""

    def __init__(self, path: str, n_threads: int, n_ctx: int) -> None:
        self.api = importlib.import_module("llama_cpp")
        api = self.api
        self.version = api.__version__
        self.log = api.llama_log_callback(lambda level, text, data: None)
        api.llama_log_set(self.log, None)
        api.llama_backend_init()
        self.model = api.llama_model_load_from_file(path.encode(), api.llama_model_default_params())
        if not self.model:
            raise ValueError(f"llama.cpp cannot load {path}")
        settings = api.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch = n_ctx, 512, 512
        settings.n_threads = settings.n_threads_batch = n_threads
        settings.flash_attn_type = -1  # automatic
        self.context = api.llama_init_from_model(self.model, settings)
        vocab = api.llama_model_get_vocab(self.model)
        self.n_vocab = api.llama_vocab_n_tokens(vocab)
        bos = api.llama_vocab_bos(vocab)
        self.bos = None if bos < 0 else bos

    def _read(self, tokens: list[int]) -> Any:
        array = (self.api.llama_token * len(tokens))(*tokens)
        batch = self.api.llama_batch_get_one(array, len(tokens))
        if code := self.api.llama_decode(self.context, batch):
            raise RuntimeError(f"llama_decode returned {code}")
        return self.api.llama_get_logits_ith(self.context, -1)  # waits for the result

    def prompt(self, tokens: list[int]) -> Any:
        """Read a prompt with an empty cache, 512 tokens at a time; returns the last logits."""
        self.end()
        for start in range(0, len(tokens), 512):
            logits = self._read(tokens[start : start + 512])
        return logits

    def decode(self, token: int) -> Any:
        """Read one more token; the logits are there when this returns."""
        return self._read([token])

    def end(self) -> None:
        """Forget the tokens."""
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)


CONTESTANTS: dict[str, Any] = {"jitllm": Jitllm, "llama.cpp": LlamaCpp}


def play(contestant: Any, tokens: list[int], n_prompt: int) -> dict[str, Any]:
    """Time one round: a prompt, then the other tokens one by one."""
    start = time.perf_counter()
    logits = contestant.prompt(tokens[:n_prompt])
    middle = time.perf_counter()
    shown = [float(logits[i]) for i in range(0, contestant.n_vocab, contestant.n_vocab // 256)]
    begin = time.perf_counter()
    for token in tokens[n_prompt:]:
        contestant.decode(token)
    end = time.perf_counter()
    contestant.end()
    return {"prompt_s": middle - start, "decode_s": end - begin, "logits": shown}


def main() -> None:
    """Answer requests until stdin ends."""
    # the library may write to stdout: keep the pipe for answers only
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, path, n_threads, n_ctx = sys.argv[1:]
    contestant = CONTESTANTS[name](path, int(n_threads), int(n_ctx))
    hello = {"n_vocab": contestant.n_vocab, "bos": contestant.bos, "version": contestant.version}
    print(json.dumps(hello), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = play(contestant, request["tokens"], request["n_prompt"])
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
