"""How a generation goes on: its parameters, and its samplers with their state."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from jitllm.llm.errors import StateError
from jitllm.llm.sampling import SamplerChain, SamplingParams
from jitllm.llm.state_files import plain

if TYPE_CHECKING:
    from jitllm.llm.model import Model

_VERSION = 1


@dataclass
class Continuation:
    """What the last generation of a sequence leaves for the next.

    Attributes
    ----------
    params : SamplingParams
    chain : SamplerChain
        Its samplers have accepted the tokens of the sequence.
    lacks : tuple of str
        "sampler" and "logits_processors", where they are the caller's: no file can hold them.
    state : mapping or None
        Of a sampler that is to be given, after loading from a file.
    """

    params: SamplingParams
    chain: SamplerChain
    lacks: tuple[str, ...] = ()
    state: Mapping[str, Any] | None = None

    def clone(self) -> "Continuation":
        """Return an independent one that goes on in the same way."""
        return Continuation(self.params, self.chain.clone(), self.lacks, self.state)

    def accept(self, tokens: Iterable[int]) -> None:
        """Note tokens that were added to the sequence otherwise."""
        self.chain.accept_many(tokens)

    def ready(
        self, sampler: SamplerChain | None, logits_processors: object
    ) -> tuple[SamplingParams, SamplerChain]:
        """Return parameters and a chain of samplers that goes on.

        Parameters
        ----------
        sampler : SamplerChain or None
            In place of the one that no file could hold.
        logits_processors : object
            Those that the caller gives.

        Raises
        ------
        ValueError
            If one is missing.
        """
        given = {"sampler": sampler is not None, "logits_processors": bool(logits_processors)}
        missing = [name for name in self.lacks if not given[name]]
        if self.state is not None and missing:
            raise ValueError(
                f"expected {' and '.join(missing)} as given to generate: they are the caller's "
                "own, and no file holds them"
            )
        if sampler is None:
            return self.params, self.chain
        chain = sampler.clone()
        chain.load_state(self.state or self.chain.state())
        return self.params, chain

    def save(self, arrays: dict[str, plain.Array]) -> dict[str, Any]:
        """Return plain data; arrays are added to `arrays`, their names begin with "sampler."."""
        params = asdict(self.params)
        bias = params["logit_bias"]
        params["logit_bias"] = bias and [[int(k), float(v)] for k, v in bias.items()]
        whole = {
            "version": _VERSION,
            "params": params,
            "chain": self.chain.state(),
            "lacks": list(self.lacks),
        }
        saved: dict[str, Any] = plain.split(whole, "sampler", arrays)
        return saved


def load_continuation(
    saved: Mapping[str, Any], arrays: Callable[[str], plain.Array], model: "Model"
) -> Continuation:
    """Return what `Continuation.save` wrote.

    Raises
    ------
    StateError
        If it is of another version or makes no sense.
    """
    from jitllm.llm.request import Request

    if saved.get("version") != _VERSION:
        raise StateError(
            f"a sampler's state: expected version {_VERSION}, got {saved.get('version')!r:.80}"
        )
    whole = plain.join(dict(saved), arrays)
    try:
        given = dict(whole["params"])
        bias = given.pop("logit_bias")
        params = SamplingParams.create(**given, logit_bias=bias and dict(bias))
        request = Request.build(model, params)
        chain = request.chain(model, int(whole["chain"]["seed"]))
        lacks = tuple(str(name) for name in whole["lacks"])
        if "sampler" not in lacks:
            chain.load_state(whole["chain"])
        return Continuation(params, chain, lacks, whole["chain"] if lacks else None)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise StateError(f"a sampler's state makes no sense: {error}") from error
