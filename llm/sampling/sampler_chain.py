"""`SamplerChain`: samplers in a row, from logits to a token."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jitllm.backends.base import Draw, DrawStep
from jitllm.llm.sampling.base import Candidates, Ids, LogitsFunction, Sampler
from jitllm.llm.sampling.errors import SamplingError
from jitllm.llm.sampling.softmax import raise_unusable

_STATE_VERSION = 1


class SamplerChain:
    """Chooses tokens; keeps the samplers' state and, for logits processors, the history.

    Build one with `chain`. Not for use from several threads at once.

    Parameters
    ----------
    samplers
        Applied in this order; the last one selects.
    seed
        The 32 bits that the samplers' generators were started from.
    n_vocab
        Number of logits to expect, None for any.
    logits_processors
        Called before the samplers as `f(ids, logits)` with the int32 history of accepted tokens
        and a float32 `[V]` copy; they change it in place or return another array.

    Attributes
    ----------
    last
        The candidates after the last `sample`, None before, and where a device chose the token.
    """

    def __init__(
        self,
        samplers: Sequence[Sampler],
        *,
        seed: int,
        n_vocab: int | None = None,
        logits_processors: Sequence[LogitsFunction] = (),
    ) -> None:
        self.samplers = tuple(samplers)
        self.seed = seed
        self.n_vocab = n_vocab
        self.logits_processors = tuple(logits_processors)
        self.last: Candidates | None = None
        self._history = array("i")
        self._listeners = _listeners(self.samplers)
        self._is_data = all(map(_speaks_for_itself, self.samplers))

    def __repr__(self) -> str:
        return f"SamplerChain({' -> '.join(s.name for s in self.samplers)}, seed={self.seed})"

    def sample(self, logits: NDArray[np.float32]) -> int:
        """Choose a token; does not accept it.

        Parameters
        ----------
        logits
            float32 `[V]`; not modified.

        Raises
        ------
        SamplingError
            Wrong shape or dtype, nan or +inf among the logits, or no possible token.
        """
        self._check(logits)
        if self.logits_processors:
            logits = self._processed(logits)
        return self.sample_from(Candidates(logits))

    def needs(self) -> int | None:
        """Return how many of the largest logits are enough for the next token; None for all.

        Where logits are equal, those of lower ids come first.
        """
        n: int | None = None
        for sampler in reversed(self.samplers):
            n = sampler.needs(n)
        return None if self.logits_processors else n

    def draw(self) -> Draw | None:
        """Return how a device may choose the next token, None if it cannot.

        Nothing changes: if it did, `drawn` follows.
        """
        n, steps = self.needs() if self._is_data else None, list[DrawStep]()
        for sampler in self.samplers if n else ():
            step = sampler.draw_step()
            if step is None:
                return None
            steps.append(step)
        return Draw(n, tuple(steps)) if n else None

    def drawn(self) -> None:
        """Go on as after `sample`: a device chose the token, as `draw` says."""
        for sampler in self.samplers:
            sampler.drawn()
        self.last = None

    def sample_from(self, candidates: Candidates) -> int:
        """Choose one of some candidates, as `sample` does of all.

        Parameters
        ----------
        candidates
            With the `needs()` largest logits among them; they are changed.
        """
        top = candidates.logits.max()  # nan if any is
        if not np.isfinite(top):
            raise_unusable(float(top))
        for sampler in self.samplers:
            sampler.apply(candidates)
        self.last = candidates
        return candidates.token

    def _check(self, logits: NDArray[np.float32]) -> None:
        n_vocab = self.n_vocab
        if (
            not isinstance(logits, np.ndarray)
            or logits.dtype != np.float32
            or logits.ndim != 1
            or not logits.size
            or (n_vocab is not None and logits.shape[0] != n_vocab)
        ):
            came = getattr(logits, "dtype", type(logits).__name__)
            raise SamplingError(
                f"expected float32 logits [{n_vocab if n_vocab is not None else 'V'}], got {came} "
                f"{list(np.shape(logits))}"
            )

    def _processed(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        ids = np.array(self._history, dtype=np.int32)
        logits = logits.copy()
        for processor in self.logits_processors:
            logits = call_logits_function(processor, ids, logits)
        return logits

    def accept(self, token: int) -> None:
        """Tell the samplers about a token of the prompt or of the output."""
        token = int(token)
        if self.logits_processors:
            self._history.append(token)
        for sampler in self._listeners:
            sampler.accept(token)

    def accept_many(self, tokens: Iterable[int]) -> None:
        """Accept tokens in order, such as a whole prompt."""
        if self._listeners or self.logits_processors:
            for token in tokens:
                self.accept(token)

    def reset(self) -> None:
        """Go back to the state after construction, same seed."""
        for sampler in self.samplers:
            sampler.reset()
        self._history = array("i")
        self.last = None

    def clone(self) -> Self:
        """Return an independent chain that continues identically (`last` is not kept)."""
        twin = type(self)(
            [sampler.clone() for sampler in self.samplers],
            seed=self.seed,
            n_vocab=self.n_vocab,
            logits_processors=self.logits_processors,
        )
        twin._history = array("i", self._history)
        return twin

    def state(self) -> dict[str, Any]:
        """Return what is needed to continue, as plain numbers, strings and arrays."""
        return {
            "version": _STATE_VERSION,
            "seed": self.seed,
            "history": np.array(self._history, dtype=np.int32),
            "samplers": [{"name": s.name, "state": s.state()} for s in self.samplers],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` of a chain with the same samplers returned."""
        if state.get("version") != _STATE_VERSION:
            raise SamplingError(
                f"sampler state: expected version {_STATE_VERSION}, got {state.get('version')!r}"
            )
        ours = [sampler.name for sampler in self.samplers]
        theirs = [entry["name"] for entry in state["samplers"]]
        if ours != theirs:
            raise SamplingError(
                f"sampler state is of the chain {theirs}, this chain is {ours}: build it with the "
                f"same parameters"
            )
        for sampler, entry in zip(self.samplers, state["samplers"], strict=True):
            sampler.load_state(entry["state"])
        self.seed = int(state["seed"])
        self._history = array("i", np.asarray(state["history"], dtype=np.intc).tolist())
        self.last = None


def _speaks_for_itself(sampler: Sampler) -> bool:
    """Whether `draw_step` is of the class that has `apply`, or of one derived from it."""
    for kind in type(sampler).__mro__:
        if "draw_step" in vars(kind) or "apply" in vars(kind):
            return "draw_step" in vars(kind)
    return False


def _listeners(samplers: Iterable[Sampler]) -> tuple[Sampler, ...]:
    return tuple(s for s in samplers if type(s).accept is not Sampler.accept)


def call_logits_function(
    function: LogitsFunction, ids: Ids, logits: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Call a user's function and return the logits it left or returned, float32 `[C]`."""
    returned: ArrayLike | None = function(ids, logits)
    if returned is None:
        return logits
    array_ = np.asarray(returned)
    if array_.shape != logits.shape or array_.dtype.kind not in "fiu":
        raise SamplingError(
            f"a logits function must return None or {list(logits.shape)} numbers, got "
            f"{array_.dtype} {list(array_.shape)} from {function!r}"
        )
    return np.array(array_, dtype=np.float32)
