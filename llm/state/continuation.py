"""How a generation goes on: its parameters, and its samplers with their state."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from jitllm.llm.errors import StateError
from jitllm.llm.sampling import SamplerChain, SamplingParams
from jitllm.llm.state import plain

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
    is_custom : bool
        It has samplers or logits processors of the caller's, which no file can hold.
    """

    params: SamplingParams
    chain: SamplerChain
    is_custom: bool = False

    def clone(self) -> "Continuation":
        """Return an independent one that goes on in the same way."""
        return Continuation(self.params, self.chain.clone(), self.is_custom)

    def save(self, arrays: dict[str, plain.Array]) -> dict[str, Any]:
        """Return plain data; arrays are added to `arrays`, their names begin with "sampler."."""
        params = asdict(self.params)
        bias = params["logit_bias"]
        params["logit_bias"] = bias and [[int(k), float(v)] for k, v in bias.items()]
        whole = {
            "version": _VERSION,
            "params": params,
            "chain": self.chain.state(),
            "is_custom": self.is_custom,
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
        is_custom = bool(whole["is_custom"])
        if not is_custom:
            chain.load_state(whole["chain"])
        return Continuation(params, chain, is_custom)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise StateError(f"a sampler's state makes no sense: {error}") from error
