"""Mamba: "mamba". Source: transformers, `MambaForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import mamba2
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Weight
from jitllm.llm.errors import UnsupportedArchitecture

ARCHITECTURE = "mamba"
CLASSES = ("MambaForCausalLM", "MambaLMHeadModel")
DEFAULTS: dict[str, object] = {}  # all sizes have their defaults below
PARTS = {"x_proj": "ssm_x", "dt_proj": "ssm_dt"}
_NAMES = decoder.Names(
    {f"mixer.{name}": made for name, made in (mamba2.MIXER | PARTS).items()}
    | {"norm": "attn_norm"},
    mamba2.WHOLE,
    r"backbone\.layers\.",
)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary.

    Raises
    ------
    UnsupportedArchitecture
        If the mixer is not twice as wide as the rest.
    """
    config = source.config
    width = config.size("hidden_size", "d_model")
    inner = config.get("intermediate_size", "d_inner") or 2 * width
    if inner != 2 * width:
        raise UnsupportedArchitecture(
            f"{config.path}: expected intermediate_size {2 * width}, got {inner}"
        )
    mamba2.sizes(config, target, inner)
    target.key("uint32", "ssm.state_size", config.get("state_size", "d_state") or 16)
    rank = config.get("time_step_rank", "dt_rank") or -(-width // 16)
    target.key("uint32", "ssm.time_step_rank", rank)
    target.key("bool", "ssm.dt_b_c_rms", False)
    embedding: Weight | None = None
    for name, weight in source.weights():
        made = _NAMES(name)
        if made == "token_embd.weight":
            embedding = weight
        same = made == "output.weight" and embedding is not None and _same(weight, embedding)
        if not same:
            target.tensor(made, mixed(name, weight))
    mamba2.pad_vocabulary(config, 8)
    vocabulary.gpt2(source, target)


def _same(a: Weight, b: Weight) -> bool:
    return a.shape == b.shape and bool((a.floats() == b.floats()).all())


def mixed(name: str, weight: Weight) -> Weight:
    """Return a weight as GGUF has it: rates of decay, and a convolution of two dimensions."""
    if name.endswith(".A_log"):
        return weight.computed(mamba2.decay)
    if name.endswith("conv1d.weight"):
        return weight.moved(lambda w: w.squeeze(1))
    return weight
