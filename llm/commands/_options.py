"""Options that several commands share, with llama.cpp's spellings beside ours."""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import click

from jitllm.llm.commands._adapters import Adapters, adapter_options
from jitllm.llm.commands._placing import placing_options

if TYPE_CHECKING:
    from jitllm.llm.model import Model

Function = Callable[..., Any]
_SAMPLING = (
    "max_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed",
    "context_shift", "n_keep",
)  # fmt: skip


_MODEL_SPELLINGS = ("-m", "--model", "-hf", "--hf-repo")  # of llama.cpp


class ModelCommand(click.Command):
    """A command whose first argument, REF, can also be given as -m REF or -hf REF."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.insert(0, click.Argument(["ref"]))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move the value of -m or -hf to the front."""
        return super().parse_args(ctx, _model_first(args))


def _model_first(args: list[str]) -> list[str]:
    for i, arg in enumerate(args):
        if arg == "--":
            break
        if arg in _MODEL_SPELLINGS and i + 1 < len(args):
            return [args[i + 1], *args[:i], *args[i + 2 :]]
        name, equals, value = arg.partition("=")
        if equals and name in _MODEL_SPELLINGS:
            return [value, *args[:i], *args[i + 1 :]]
    return args


@dataclass(frozen=True)
class ModelOptions:
    """Which model to load and how; see `jitllm.load`."""

    ref: str
    n_ctx: int
    n_threads: int | None
    placing: dict[str, Any]
    kv_dtype: str
    precision: Literal["fast", "exact"]
    cache_bytes: int | None
    quiet: bool
    adapters: Adapters

    @property
    def device(self) -> str:
        """The devices, with commas."""
        device = self.placing["device"]
        return device if isinstance(device, str) else ",".join(device)

    def load(self) -> "Model":
        """Load the model with its adapters, with progress on stderr unless `quiet`."""
        from jitllm.llm import api

        model = api.load(self.ref, n_ctx=self.n_ctx, n_threads=self.n_threads,
                         kv_dtype=self.kv_dtype, precision=self.precision,
                         cache_bytes=self.cache_bytes, progress=not self.quiet,
                         **self.placing)  # fmt: skip
        try:
            self._attach(model)
        except BaseException:
            model.close()
            raise
        return model

    def _attach(self, model: "Model") -> None:
        if self.adapters:
            from jitllm.llm.lora import LoraAdapter

            for path, scale in self.adapters:
                LoraAdapter.load(path).attach(model, scale=scale)


def _bytes(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Read a number of bytes."""
    if value is None:
        return None
    from jitllm.llm.plan import n_bytes

    try:
        return n_bytes(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def verbosity(function: Function) -> Function:
    """Add -v and -q; the function gets `quiet`."""

    @click.option("-v", "--verbose", count=True, help="Log more; twice for everything.")
    @click.option("-q", "--quiet", is_flag=True, help="Only errors on stderr.")
    @functools.wraps(function)
    def wrapped(*args: Any, verbose: int, **kwargs: Any) -> Any:
        if not kwargs["quiet"]:
            logging.basicConfig(format="%(name)s: %(message)s")  # warnings of all libraries
        if verbose:
            level = logging.INFO if verbose == 1 else logging.DEBUG
            logging.getLogger("jitllm").setLevel(level)
        return function(*args, **kwargs)

    return wrapped


def _kv_dtype(both: str, keys: str | None, values: str | None) -> str:
    """Return the types of a cache from those of both, and of each if it was given."""
    from jitllm.kernels.cache_types import spelled

    first, _, second = both.partition("/")
    try:
        return spelled(f"{keys or first}/{values or second or first}")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--kv-dtype") from error


def memory_options(function: Function) -> Function:
    """Add the options of loading that bytes depend on, all but the device."""

    @click.option("-c", "--n-ctx", "--ctx-size", "n_ctx", default=0, type=click.IntRange(0),
                  help="Longest text in tokens; 0 for the model's own.")  # fmt: skip
    @click.option("-t", "--threads", "--n-threads", "n_threads", type=click.IntRange(1),
                  help="Threads; by default one for each free core.")  # fmt: skip
    @click.option("--kv-dtype", default="f16", show_default=True, metavar="TYPE[/TYPE]",
                  help="Type of cached keys and values, or of each: q8_0, q8_0/q4_0.")  # fmt: skip
    @click.option("-ctk", "--cache-type-k", "keys", help="Type of cached keys alone.")
    @click.option("-ctv", "--cache-type-v", "values", help="Type of cached values alone.")
    @click.option("--precision", default="fast", show_default=True,
                  type=click.Choice(["fast", "exact"]),
                  help="exact: activations stay float32.")  # fmt: skip
    @click.option("--cache-bytes", metavar="BYTES", callback=_bytes,
                  help="Most bytes of all caches, such as 512M or 8G.")  # fmt: skip
    @functools.wraps(function)
    def wrapped(keys: str | None, values: str | None, **kwargs: Any) -> Any:
        kwargs["kv_dtype"] = _kv_dtype(kwargs["kv_dtype"], keys, values)
        return function(**kwargs)

    return wrapped


def model_options(function: Function) -> Function:
    """Add the options of loading to a `ModelCommand`; the function gets them as `options`."""

    @placing_options
    @memory_options
    @adapter_options
    @verbosity
    @functools.wraps(function)
    def wrapped(**kwargs: Any) -> Any:
        loading = {field.name: kwargs.pop(field.name) for field in fields(ModelOptions)}
        return function(options=ModelOptions(**loading), **kwargs)

    return wrapped


def sampling_options(default_max_tokens: int | None) -> Callable[[Function], Function]:
    """Add the options of sampling; the function gets those that were given as `sampling`.

    Parameters
    ----------
    default_max_tokens : int or None
        Value of -n when it is not given; None for as long as the context allows.
    """
    shown = "until the model ends" if default_max_tokens is None else default_max_tokens

    def decorate(function: Function) -> Function:
        @click.option(
            "-n",
            "--max-tokens",
            "--predict",
            "--n-predict",
            "max_tokens",
            type=int,
            default=default_max_tokens,
            help=f"Most tokens to write, -1 for no limit.  [default: {shown}]",
        )
        @click.option(
            "--temp",
            "--temperature",
            "temperature",
            type=float,
            help="Temperature; 0 takes the likeliest token.",
        )
        @click.option("--top-k", type=int, help="Keep the k likeliest tokens; 0 for all.")
        @click.option("--top-p", type=float, help="Keep the likeliest tokens of this sum.")
        @click.option("--min-p", type=float, help="Keep tokens this likely next to the likeliest.")
        @click.option(
            "--repeat-penalty",
            "--repetition-penalty",
            "repetition_penalty",
            type=float,
            help="Divide the logits of recent tokens; 1 for none.",
        )
        @click.option(
            "--context-shift/--no-context-shift",
            default=None,
            help="Go on when the context is full, without half of the tokens.",
        )
        @click.option(
            "--keep",
            "n_keep",
            type=click.IntRange(-1),
            help="First tokens that a shift keeps; -1 for the whole prompt.",
        )
        @click.option("-s", "--seed", type=int, help="Seed; -1 for another one each time.")
        @functools.wraps(function)
        def wrapped(**kwargs: Any) -> Any:
            given = {name: kwargs.pop(name) for name in _SAMPLING}
            for name in ("max_tokens", "seed"):
                if given[name] == -1:
                    given[name] = None
            sampling = {name: value for name, value in given.items() if value is not None}
            return function(sampling=sampling, **kwargs)

        return wrapped  # fmt: skip

    return decorate


def json_option(function: Function) -> Function:
    """Add --json; the function gets `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)
