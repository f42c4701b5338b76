"""A model for EleutherAI's lm-evaluation-harness, the package `lm_eval`, 0.4 or newer.

Example
-------
::

    import lm_eval
    from jitllm.llm.harness import harness_model

    with jitllm.load("model.gguf") as model:
        lm_eval.simple_evaluate(harness_model(model), tasks=["hellaswag"], limit=100)
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from jitllm.llm.errors import ContextLengthExceeded
from jitllm.llm.progress import ProgressBar

if TYPE_CHECKING:
    from jitllm.llm.model import Model

_MAX_TOKENS = 256  # the harness's default
_MAX_TOKENS_KEYS = ("max_gen_toks", "max_new_tokens", "max_tokens")
_SAMPLING_OFF = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}  # as the harness expects unless it asks


class Instance(Protocol):
    """A request of the harness."""

    args: tuple[Any, ...]


def harness_model(model: "Model", *, progress: bool = False) -> Any:
    """Return a model as `lm_eval.simple_evaluate` and `lm_eval.evaluate` take it.

    Parameters
    ----------
    model : Model
    progress : bool
        Show a bar for each kind of requests.

    Returns
    -------
    lm_eval.api.model.LM
        With the methods of `HarnessAnswers`.

    Raises
    ------
    ImportError
        If the package `lm_eval` is not installed.
    """
    try:
        base = importlib.import_module("lm_eval.api.model").LM
    except ImportError as error:
        raise ImportError(
            f"expected the package lm_eval, got {error}; install it: pip install lm_eval"
        ) from error
    kind = type("HarnessModel", (HarnessAnswers, base), {"__module__": __name__})
    return kind(model, progress)


class HarnessAnswers:
    """Answers to the three kinds of requests that the harness has.

    Parameters
    ----------
    model : Model
    progress : bool
    """

    cache_hook: Any = None  # the harness's base class sets it, where answers are to be kept

    def __init__(self, model: "Model", progress: bool = False) -> None:
        super().__init__()
        self.model, self.progress = model, progress

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Return log-probability and greediness of each (context, continuation).

        All tokens of the continuation count, the last too. What does not fit in front of them is
        left out of the context.

        Parameters
        ----------
        requests : sequence of Instance

        Raises
        ------
        ContextLengthExceeded
            If a continuation alone is longer than the context.
        """
        return [
            self._keep("loglikelihood", request, self._score(*request.args))
            for request in self._each(requests, "loglikelihood")
        ]

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """Return the log-probability of each whole text behind the token of beginning.

        A text longer than the context is scored in windows without overlap; the last has as much
        context as fits.

        Parameters
        ----------
        requests : sequence of Instance
        """
        return [
            self._keep("loglikelihood_rolling", request, self._rolling(*request.args))
            for request in self._each(requests, "loglikelihood_rolling")
        ]

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Return the continuation of each (context, options), greedy unless they ask for more.

        Parameters
        ----------
        requests : sequence of Instance
            Options: `until`, `max_gen_toks`, `do_sample`, `temperature`, and other fields of
            `SamplingParams`.

        Raises
        ------
        SamplingError
            If an option is none of these.
        ContextLengthExceeded
            If `max_gen_toks` leaves no room for a prompt.
        """
        return [
            self._keep("generate_until", request, self._generate(*request.args))
            for request in self._each(requests, "generate_until")
        ]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return the text of a chat, without the token of beginning that tokenizing will add.

        Parameters
        ----------
        chat_history : list of dict
        add_generation_prompt : bool
        """
        text = self.model.apply_chat_template(
            chat_history, add_generation_prompt=add_generation_prompt
        )
        tokenizer = self.model.need_tokenizer("a chat")
        if tokenizer.add_bos and tokenizer.bos_id is not None:
            text = text.removeprefix(tokenizer.vocabulary.tokens[tokenizer.bos_id])
        return text

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Return the text of the model's chat template if one is to be used, else ""."""
        if not chat_template:
            return ""
        return self.model.need_tokenizer("a chat").chat_template().source

    @property
    def tokenizer_name(self) -> str:
        """The model's name, which tells apart what the harness keeps of requests."""
        return self.model.identity.name.replace("/", "__")

    def _each(self, requests: Sequence[Instance], title: str) -> Iterator[Instance]:
        with ProgressBar(self.progress, title, unit="request") as bar:
            for i, request in enumerate(requests):
                yield request
                bar.update(i + 1, len(requests))

    def _keep(self, kind: str, request: Instance, answer: Any) -> Any:
        if self.cache_hook is not None:
            self.cache_hook.add_partial(kind, request.args, answer)
        return answer

    def _score(self, context: str, continuation: str) -> tuple[float, bool]:
        if not context:
            ids = self.model.tokenize(continuation, add_special=False)
            return self.model.loglikelihood([self._prefix()], ids)
        try:
            return self.model.loglikelihood(context, continuation)
        except ContextLengthExceeded:
            n_before = len(self.model.tokenize(context.rstrip()))
            ids = self.model.tokenize(context + continuation)
            # the last token is scored, not read: one more than the context fits
            before = ids[max(0, len(ids) - self.model.n_ctx - 1) : n_before]
            if not before:
                raise
            return self.model.loglikelihood(before, ids[n_before:])

    def _rolling(self, text: str) -> float:
        ids = self.model.tokenize(text, add_special=False)
        everything, width = [self._prefix(), *ids], self.model.n_ctx
        total = 0.0
        for start in range(0, len(ids), width):
            end = min(start + width, len(ids))
            context = everything[max(0, end - width) : start + 1]
            total += self.model.loglikelihood(context, ids[start:end])[0]
        return total

    def _prefix(self) -> int:
        """Return what stands before a text that has nothing before it."""
        tokenizer = self.model.need_tokenizer("a text")
        token = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
        if token is None:
            raise ValueError("expected a token of beginning or end in the model, got none")
        return token

    def _generate(self, context: str, options: Mapping[str, Any]) -> str:
        sampling = {**_SAMPLING_OFF, "temperature": 0.0, **options}
        until = sampling.pop("until", None) or []
        limits = [sampling.pop(key) for key in _MAX_TOKENS_KEYS if key in sampling]
        n_most = int(limits[0]) if limits else _MAX_TOKENS
        if sampling.pop("do_sample", None) is False:
            sampling["temperature"] = 0.0
        room = self.model.n_ctx - n_most
        if room < 1:
            raise ContextLengthExceeded(
                f"expected max_gen_toks below the context of {self.model.n_ctx} tokens, got "
                f"{n_most}; load the model with a larger n_ctx"
            )
        ids = self.model.tokenize(context)[-room:]
        stop = [until] if isinstance(until, str) else list(until)
        answer = self.model.generate(ids, stop=stop, max_tokens=n_most, **sampling)
        return str(answer)
