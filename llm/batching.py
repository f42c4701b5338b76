"""Many generations side by side: each round computes what all of them need in one run."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from jitllm.backends.base import PAGE_TOKENS
from jitllm.llm.generate import GenerationStream, Prompt
from jitllm.llm.progress import ProgressBar
from jitllm.llm.request import Request
from jitllm.llm.results import Generation
from jitllm.llm.state.contents import Contents, common_prefix
from jitllm.llm.state.logits import Need
from jitllm.llm.state.pages import pages_of
from jitllm.llm.state.together import compute_together

if TYPE_CHECKING:
    from jitllm.llm.model import Model

MAX_LANES = 32
"""Most generations at a time: more rows than this do not make a run much more worth its time."""

_SLOTS = 3  # of recurrent states that a lane should find free


def generate_all(
    model: "Model", prompts: Sequence[list[int]], request: Request, *, progress: bool = False
) -> list[Generation]:
    """Generate `n` results for each prompt, in the order of the prompts.

    As many run at a time as the caches surely hold. Each gets the tokens that it would get alone.
    """
    lanes = _Lanes(model, prompts, request)
    results: dict[int, Generation] = {}
    with ProgressBar(progress, "generating", unit="result") as bar:
        try:
            for place, result in lanes.run():
                results[place] = result
                bar.update(len(results), len(prompts) * request.params.n)
        finally:
            lanes.close()
    return [results[place] for place in sorted(results)]


class _Lanes:
    """Generations under way, and those that wait for a place."""

    def __init__(self, model: "Model", prompts: Sequence[list[int]], request: Request) -> None:
        self._model, self._request = model, request
        n = request.params.n
        self._waiting = deque((i * n + j, i, j) for i in range(len(prompts)) for j in range(n))
        self._ids, self._prompts = prompts, dict[int, Prompt]()
        self._streams: dict[int, GenerationStream] = {}
        self._needs: dict[int, int] = {}  # pages that a lane may come to hold
        kept = model.prefix_cache
        self._capacity = min(
            (pool.n_free + kept.n_reclaimable(pool) for pool in model.engine.pools),
            default=1 << 30,
        )

    def run(self) -> Iterator[tuple[int, Generation]]:
        """Yield the place and the result of each generation when it ends."""
        while self._waiting or self._streams:
            self._admit()
            self._compute()
            for place, stream in list(self._streams.items()):
                next(stream)
                if stream.has_ended:
                    del self._streams[place], self._needs[place]
                    yield place, stream.result

    def close(self) -> None:
        """End what is under way, and free the prompts."""
        for stream in self._streams.values():
            stream.close()
        for prompt in self._prompts.values():
            prompt.sequence.close()

    def _admit(self) -> None:
        new: list[list[int]] = []
        while self._waiting and len(self._streams) < self._most():
            place, number, index = self._waiting[0]
            ids = self._ids[number]
            need = self._pages(ids)
            if self._streams and sum(self._needs.values()) + need > self._capacity:
                return
            if number not in self._prompts and self._should_wait(ids, new):
                return
            self._waiting.popleft()
            new.append(ids)
            stream = GenerationStream(self._model, self._prompt(number), self._request, index)
            self._streams[place], self._needs[place] = stream, need

    def _should_wait(self, ids: list[int], new: list[list[int]]) -> bool:
        """Whether a prompt can start from one of those admitted now, once that is computed."""
        engine, kept = self._model.engine, self._model.prefix_cache
        if not kept.max_bytes or engine.slots:  # states are not kept where two prompts part
            return False
        common = max((common_prefix(ids, other) for other in new), default=0)
        return common >= PAGE_TOKENS and common > kept.count(ids) + PAGE_TOKENS

    def _most(self) -> int:
        """One lane where rows of several texts must not meet, or could not be told apart."""
        engine, params = self._model.engine, self._request.params
        if engine.hooks or self._model.has_encoder or params.prompt_logprobs is not None:
            return 1
        if engine.slots:
            n_free = engine.slots.n_free + self._model.prefix_cache.n_reclaimable(engine.slots)
            return max(1, min(MAX_LANES, n_free // _SLOTS + len(self._streams)))
        return MAX_LANES

    def _pages(self, ids: list[int]) -> int:
        """Pages for a prompt and all that may follow, one more for what forks do not share."""
        n_ctx, most = self._model.n_ctx, self._request.params.max_tokens
        return 1 + pages_of(n_ctx if most is None else min(n_ctx, len(ids) + most))

    def _prompt(self, number: int) -> Prompt:
        if number not in self._prompts:
            prompt = Prompt.begin(self._model, self._ids[number], self._request)
            self._prompts[number] = prompt
            if self._most() > 1:
                prompt.push()
        return self._prompts[number]

    def _compute(self) -> None:
        """Compute the logits that the next step of every lane needs."""
        started = time.perf_counter()
        once, needs = dict[int, Contents](), dict[int, Need]()
        for stream in self._streams.values():
            need = stream.need
            for contents in stream.needed():  # samples share a prompt
                key = id(contents)
                once[key], needs[key] = contents, need.join(needs.get(key, need))
        compute_together(self._model.engine, [*once.values()], needs=[*needs.values()])
        seconds = time.perf_counter() - started
        for stream in self._streams.values():
            stream.waited(seconds)
