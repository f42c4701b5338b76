"""How probable given texts are."""

from typing import TYPE_CHECKING, Any, cast, overload

from jitllm.llm.embeddings import Embeddings
from jitllm.llm.texts import Text, is_many

if TYPE_CHECKING:
    from jitllm.llm.evaluate import Perplexity
    from jitllm.llm.model import Model


class Scoring(Embeddings):
    """What a model says of given texts; `Model` is one."""

    @overload
    def loglikelihood(self, context: Text, continuation: Text) -> tuple[float, bool]: ...

    @overload
    def loglikelihood(
        self, context: list[str], continuation: list[str]
    ) -> list[tuple[float, bool]]: ...

    def loglikelihood(self, context: Any, continuation: Any) -> Any:
        """Return how probable a continuation is, and whether greedy generation would give it.

        Parameters
        ----------
        context : str, ids, or list of these
            Empty for none: then the token of beginning stands before the continuation.
        continuation : str, ids, or list of these
            As many as contexts.

        Returns
        -------
        logprob : float
            Natural logarithm, summed over the continuation's tokens.
        is_greedy : bool
            A list of such pairs for lists.
        """
        from jitllm.llm.evaluate import loglikelihood

        model = cast("Model", self)
        if is_many(context):
            pairs = zip(context, continuation, strict=True)
            return [loglikelihood(model, *pair) for pair in pairs]
        return loglikelihood(model, context, continuation)

    def perplexity(
        self,
        text: Text,
        *,
        n_ctx: int = 512,
        n_chunks: int | None = None,
        progress: bool = False,
    ) -> "Perplexity":
        """Return the perplexity of a text under llama-perplexity's default protocol.

        The text is cut into chunks of `n_ctx` tokens, the first of which is replaced by the token
        of beginning if the model wants one; the second half of each chunk is scored.

        Parameters
        ----------
        text : str or ids
        n_ctx : int
        n_chunks : int, optional
            Use only so many chunks.
        progress : bool
        """
        from jitllm.llm.evaluate import perplexity

        return perplexity(
            cast("Model", self), text, n_ctx=n_ctx, n_chunks=n_chunks, progress=progress
        )
