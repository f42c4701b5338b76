"""`Model`: all that a loaded model can be asked for."""

import dataclasses
import os
import weakref
from collections.abc import Mapping
from collections.abc import Sequence as Sequence_
from typing import TYPE_CHECKING, Any, Literal, NoReturn, overload

from jitllm.llm.errors import UnsupportedArchitecture
from jitllm.llm.identity import Identity
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models.loading import OpenModel
from jitllm.llm.placing import Placing
from jitllm.llm.scoring import Scoring
from jitllm.llm.state.engine import Engine
from jitllm.llm.state.prefixes import PrefixCache
from jitllm.llm.state.sequence import Sequence
from jitllm.llm.state_files.file import StateFile
from jitllm.llm.state_files.restoring import restore
from jitllm.llm.texts import Prompts, Text, is_many
from jitllm.llm.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from jitllm.llm.asynchronous import AsyncGeneration
    from jitllm.llm.generate import GenerationStream
    from jitllm.llm.request import Request
    from jitllm.llm.results import Generation
    from jitllm.llm.sampling import SamplingParams

Messages = Sequence_[Mapping[str, Any]]
Tools = Sequence_[Mapping[str, Any]]


class Model(Scoring):
    """A model on a device. `jitllm.load` makes one.

    Weights never change; everything that does is in sequences. Close it, or use it as a context
    manager, to free its memory. Several threads may use one model; their runs take turns.

    Attributes
    ----------
    config : ModelConfig
    tokenizer : Tokenizer or None
        None for a file without one, or with one of an unknown kind: give token ids then. Also
        None once the model is closed.
    metadata : mapping
        Of the GGUF file.
    n_ctx : int
        Most tokens of a sequence.
    n_vocab : int
        Columns of the logits.
    identity : Identity
        Name, files, parameters and tensor types.
    settings : dict
        Device, precision, kv_dtype and n_ctx.
    placing : Placing
        Where its parts are, with the numbers that "auto" led to.
    prefix_cache : PrefixCache
        What earlier prompts left for later ones, if `load` was asked for that.
    last_result : Generation or None
        Of the last generation that ended, also of one that was interrupted.
    """

    def __init__(
        self,
        opened: OpenModel,
        tokenizer: Tokenizer | None,
        file: GGUFFile,
        settings: Mapping[str, str],
        tokenizer_error: str = "",
        *,
        placing: Placing,
        cache_bytes: int | None = None,
        prefix_bytes: int = 0,
    ) -> None:
        try:
            self.engine = Engine(opened, settings["kv_dtype"], cache_bytes)
        except BaseException:
            opened.backend.close()
            raise
        weakref.finalize(self, self.engine.close)
        encodes = opened.graph.is_encoder
        n_vocab = opened.config.vocab_size if encodes else opened.graph.vocab_size
        super().__init__(tokenizer, file.metadata, n_vocab, tokenizer_error)
        self.config, self.n_ctx, self.head = opened.config, opened.n_ctx, opened.head
        self.settings: dict[str, Any] = {**settings, "n_ctx": self.n_ctx}
        self.placing = placing
        self.identity = Identity.of(file, opened.config.architecture)
        self.last_result: Generation | None = None
        self.prefix_cache = PrefixCache(self.engine, prefix_bytes)

    @property
    def device(self) -> str:
        """Name of the device."""
        return str(self.settings["device"])

    def __repr__(self) -> str:
        facts = ", ".join(f"{key} {value}" for key, value in self.facts().items())
        return f"<Model {self.identity.name}: {facts}>"

    def _repr_html_(self) -> str:
        from jitllm.llm.display import model_html

        return model_html(self)

    def __reduce__(self) -> NoReturn:
        path = str(self.identity.paths[0])
        raise TypeError(
            "a model can be neither copied nor pickled: its memory belongs to this process; give "
            f"its path away and load it there: jitllm.load({path!r})"
        )

    def facts(self) -> dict[str, str]:
        """Return what the printed form shows, as texts."""
        identity = self.identity
        mix = " ".join(
            f"{name} {100 * n / identity.n_parameters:.0f}%" for name, n in identity.types.items()
        )
        facts = {
            "architecture": identity.architecture,
            "parameters": f"{identity.n_parameters / 1e6:.4g} M",
            "types": mix,
            "bytes": f"{identity.nbytes / 2**20:.4g} MiB",
            "device": self.device,
            "n_ctx": str(self.n_ctx),
            "chat template": "yes" if self.has_chat_template else "no",
        }
        return facts | ({"state": "closed"} if self.engine.closed else {})

    def sequence(self, tokens: Text | None = None) -> Sequence:
        """Return a new sequence, with these tokens or this text already computed.

        Where a model has an encoder and a decoder, the encoder reads them: see `Sequence.encode`.

        Raises
        ------
        UnsupportedArchitecture
            If the model is an encoder, which has no logits to go on with.
        """
        if self.engine.graph.is_encoder:
            raise UnsupportedArchitecture(
                f"expected a model that generates; got one of architecture "
                f"{self.config.architecture!r}, an encoder: use `embed`, or `forward` for its "
                "hidden states"
            )
        sequence = Sequence(self)
        if tokens is None:
            return sequence
        return sequence.encode(tokens) if self.has_encoder else sequence.append(tokens)

    def load_sequence(
        self,
        path: str | os.PathLike[str],
        which: int | str | None = None,
        *,
        force: bool = False,
    ) -> Sequence:
        """Return a sequence that `Sequence.save` wrote, to go on with as if nothing had happened.

        Parameters
        ----------
        path : path
        which : int or str, optional
            Number or label of a checkpoint; by default the newest.
        force : bool
            Take the state of another model too, if its caches have the same sizes.

        Raises
        ------
        StateError
            If the file is none, has no such checkpoint, or its tokens are damaged; or if it is of
            another model. Damaged cells are no error: they are computed again.
        ContextLengthExceeded
            If `n_ctx` is too small.
        """
        with StateFile(path) as file:
            return Sequence(self, restore(file, file.get(which), self, force=force))

    @overload
    def generate(
        self,
        prompt: list[str] | list[list[int]],
        params: "SamplingParams | None" = None,
        *,
        stream: Literal[False] = False,
        **options: Any,
    ) -> "list[Generation]": ...

    @overload
    def generate(
        self,
        prompt: Text,
        params: "SamplingParams | None" = None,
        *,
        stream: Literal[True],
        **options: Any,
    ) -> "GenerationStream": ...

    @overload
    def generate(
        self,
        prompt: Text,
        params: "SamplingParams | None" = None,
        *,
        stream: Literal[False] = False,
        **options: Any,
    ) -> "Generation": ...

    def generate(
        self,
        prompt: Prompts,
        params: "SamplingParams | None" = None,
        *,
        stream: bool = False,
        progress: bool = False,
        **sampling: Any,
    ) -> "Generation | list[Generation] | GenerationStream":
        """Continue a text.

        A text gets the token of beginning if the model wants one, and never the chat template.
        A model with an encoder reads the prompt with it, and its decoder starts a text of its own.
        Generation ends at a token that ends texts, at a stop string or stop token, at
        `max_tokens`, or when the context is full. Without `max_tokens` it goes on until one of
        the others happens, which may be long: an interrupt ends it at once, and what was generated
        then is in `last_result`.

        Parameters
        ----------
        prompt : str, ids, or a list of these
        params : SamplingParams, optional
            By default the file's `general.sampling.*`, else llama.cpp's defaults.
        stream : bool
            Return an iterator over chunks. One prompt, n=1.
        progress : bool
            Show a bar for a list of prompts.
        **sampling
            Fields of `SamplingParams`, which go before `params`, and: `logits_processors`,
            callables `f(ids, logits)`; `sampler`, a chain from `jitllm.samplers.chain`.

        Returns
        -------
        Generation
            For one prompt and n=1. With the same seed, a prompt of a list gives what it gives
            alone; the results of n > 1 have the seeds seed, seed + 1, ...
        list of Generation
            For a list, or n > 1: prompt after prompt, the n results of each together.
        GenerationStream
            With `stream=True`.
        """
        from jitllm.llm.batching import generate_all
        from jitllm.llm.request import Request

        request = Request.build(self, params, **sampling)
        prompts = self.to_prompts(prompt)
        if stream:
            return self._start_stream(prompts, request)
        results = generate_all(self, prompts, request, progress=progress)
        return results if is_many(prompt) or request.params.n > 1 else results[0]

    def stream(
        self, prompt: Text, params: "SamplingParams | None" = None, **sampling: Any
    ) -> "GenerationStream":
        """Return `generate(..., stream=True)`."""
        return self.generate(prompt, params, stream=True, **sampling)

    def agenerate(
        self,
        prompt: Text,
        params: "SamplingParams | None" = None,
        *,
        stream: bool = False,
        **sampling: Any,
    ) -> "AsyncGeneration":
        """Continue a text without blocking the event loop.

        Returns
        -------
        AsyncGeneration
            `await` it for the `Generation`, or read its chunks with `async for`; `stream` changes
            nothing and is there so that both forms are called alike.
        """
        from jitllm.llm.asynchronous import AsyncGeneration

        return AsyncGeneration(self.stream(prompt, params, **sampling))

    @overload
    def chat(
        self,
        messages: Messages,
        params: "SamplingParams | None" = None,
        *,
        stream: Literal[True],
        **options: Any,
    ) -> "GenerationStream": ...

    @overload
    def chat(
        self,
        messages: Messages,
        params: "SamplingParams | None" = None,
        *,
        stream: Literal[False] = False,
        **options: Any,
    ) -> "Generation": ...

    def chat(
        self,
        messages: Messages,
        params: "SamplingParams | None" = None,
        *,
        stream: bool = False,
        tools: Tools | None = None,
        template: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        **sampling: Any,
    ) -> "Generation | list[Generation] | GenerationStream":
        """Answer a chat, written down by the model's chat template.

        Parameters
        ----------
        messages : sequence of mapping
            OpenAI-shaped. Content is text, or a list of text parts.
        tools : sequence of mapping, optional
            JSON descriptions of functions, for templates that show them to the model.
        template : str, optional
            The text of a chat template in Jinja, in place of the file's.
        template_kwargs : mapping, optional
            What else the template reads, such as `enable_thinking`.
        params, stream, **sampling
            As for `generate`.

        Returns
        -------
        Generation
            `message` is OpenAI-shaped, `reasoning` what stands between <think> and </think>.

        Raises
        ------
        ChatTemplateError
            If the file has no template and none is given, the template refuses the messages, or a
            message lacks its role or content.
        """
        from jitllm.llm.batching import generate_all
        from jitllm.llm.request import Request

        text, used = self.chat_text(messages, template, tools=tools, **(template_kwargs or {}))
        thinks = "</think>" in used.source or self.has_token("</think>")
        opened = thinks and text.rstrip().endswith("<think>")
        request = Request.build(self, params, **sampling)
        request = dataclasses.replace(request, has_reasoning=thinks, think_opened=opened)
        prompts = [self.chat_ids(text)]
        if stream:
            return self._start_stream(prompts, request)
        results = generate_all(self, prompts, request)
        return results if request.params.n > 1 else results[0]

    @overload
    def apply_chat_template(
        self,
        messages: Messages,
        tokenize: Literal[False] = False,
        *,
        template: str | None = None,
        **template_kwargs: Any,
    ) -> str: ...

    @overload
    def apply_chat_template(
        self,
        messages: Messages,
        tokenize: Literal[True],
        *,
        template: str | None = None,
        **template_kwargs: Any,
    ) -> list[int]: ...

    def apply_chat_template(
        self,
        messages: Messages,
        tokenize: bool = False,
        *,
        template: str | None = None,
        **template_kwargs: Any,
    ) -> str | list[int]:
        """Return the prompt that `chat` makes of messages.

        Parameters
        ----------
        messages : sequence of mapping
        tokenize : bool
            Return token ids.
        template : str, optional
            The text of a chat template in Jinja, in place of the file's.
        **template_kwargs
            `tools`, `add_generation_prompt` (default true), and what else the template reads.
        """
        text, _ = self.chat_text(messages, template, **template_kwargs)
        return self.chat_ids(text) if tokenize else text

    def memory(self) -> dict[str, int]:
        """Return bytes by purpose: "weights", "caches", "buffers", and "caches_used".

        "caches" is address space, most of which costs memory only when it is first written to;
        "caches_used" is what sequences hold of it.
        """
        return self.engine.memory()

    def memory_by_device(self) -> dict[str, dict[str, int]]:
        """Return weights, caches and buffers of each device; the CPU's are the host's, too."""
        self.engine.check_open()
        backend = self.engine.backend
        if self.placing.is_whole:  # by the name that was asked for, such as "cuda:1"
            return {self.device: backend.memory()}
        return backend.memory_by_device()

    def close(self) -> None:
        """Free everything, the tokenizer too; later use raises ClosedError. May be called twice."""
        self.engine.close()
        self.prefix_cache.clear()
        self.forget_tokenizer()

    def need_tokenizer(self, what: str) -> Tokenizer:
        """Return the tokenizer; UnsupportedTokenizer without one, ClosedError after `close`."""
        self.engine.check_open()
        return super().need_tokenizer(what)

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start_stream(self, prompts: list[list[int]], request: "Request") -> "GenerationStream":
        from jitllm.llm.generate import GenerationStream, Prompt

        if len(prompts) != 1 or request.params.n != 1:
            raise ValueError(
                f"expected one prompt and n=1 for a stream, got {len(prompts)} prompts and "
                f"n={request.params.n}; start a stream for each"
            )
        return GenerationStream(self, Prompt.begin(self, prompts[0], request), request)
