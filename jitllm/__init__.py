"""jitllm: run GGUF language models with kernels compiled by Numba."""

import importlib
import logging
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from jitllm.llm import imatrix
    from jitllm.llm import sampling as samplers
    from jitllm.llm.api import Model, load, load_tokenizer
    from jitllm.llm.control_vector import ControlVector
    from jitllm.llm.convert.api import Converted, convert
    from jitllm.llm.errors import (
        BackendError,
        ChatTemplateError,
        ClosedError,
        ContextLengthExceeded,
        GGUFError,
        HookError,
        JitllmError,
        ModelFormatError,
        ModelNotFoundError,
        StateError,
        UnsupportedArchitecture,
        UnsupportedFormat,
        UnsupportedTokenizer,
    )
    from jitllm.llm.evaluate_choices import ChoiceScores, hellaswag, multiple_choice, winogrande
    from jitllm.llm.evaluate_divergence import KLDivergence, kl_divergence
    from jitllm.llm.lora import LoraAdapter
    from jitllm.llm.plan import Plan, plan
    from jitllm.llm.plan_fit import Fit, fit
    from jitllm.llm.quantize.api import Quantized, quantize
    from jitllm.llm.results import Chunk, Generation
    from jitllm.llm.sampling import SamplingError, SamplingParams
    from jitllm.llm.state.counters import state_counters
    from jitllm.llm.state.sequence import Sequence
    from jitllm.llm.state_files.file import StateFile
    from jitllm.llm.tokenizer.tokenizer import Tokenizer

__all__ = [
    "BackendError",
    "ChatTemplateError",
    "ChoiceScores",
    "Chunk",
    "ClosedError",
    "ContextLengthExceeded",
    "ControlVector",
    "Converted",
    "Fit",
    "GGUFError",
    "Generation",
    "HookError",
    "JitllmError",
    "KLDivergence",
    "LoraAdapter",
    "Model",
    "ModelFormatError",
    "ModelNotFoundError",
    "Plan",
    "Quantized",
    "SamplingError",
    "SamplingParams",
    "Sequence",
    "StateError",
    "StateFile",
    "Tokenizer",
    "UnsupportedArchitecture",
    "UnsupportedFormat",
    "UnsupportedTokenizer",
    "convert",
    "fit",
    "hellaswag",
    "imatrix",
    "kl_divergence",
    "load",
    "load_tokenizer",
    "multiple_choice",
    "plan",
    "quantize",
    "samplers",
    "state_counters",
    "winogrande",
]

_MODULES = {
    "ChoiceScores": "llm.evaluate_choices",
    "Chunk": "llm.results",
    "ControlVector": "llm.control_vector",
    "Converted": "llm.convert.api",
    "Fit": "llm.plan_fit",
    "Generation": "llm.results",
    "KLDivergence": "llm.evaluate_divergence",
    "LoraAdapter": "llm.lora",
    "Model": "llm.api",
    "Plan": "llm.plan",
    "Quantized": "llm.quantize.api",
    "SamplingError": "llm.sampling",
    "SamplingParams": "llm.sampling",
    "StateFile": "llm.state_files.file",
    "Sequence": "llm.state.sequence",
    "Tokenizer": "llm.tokenizer.tokenizer",
    "convert": "llm.convert.api",
    "fit": "llm.plan_fit",
    "hellaswag": "llm.evaluate_choices",
    "kl_divergence": "llm.evaluate_divergence",
    "load": "llm.api",
    "load_tokenizer": "llm.api",
    "multiple_choice": "llm.evaluate_choices",
    "plan": "llm.plan",
    "quantize": "llm.quantize.api",
    "state_counters": "llm.state.counters",
    "winogrande": "llm.evaluate_choices",
}

_AS_MODULES = {"imatrix": "llm.imatrix", "samplers": "llm.sampling"}

logging.getLogger(__name__).addHandler(logging.NullHandler())  # quiet unless the user asks


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import jitllm` alone stays fast."""
    if name in _AS_MODULES:
        value: Any = importlib.import_module(f"jitllm.{_AS_MODULES[name]}")
    elif name in __all__:
        module = importlib.import_module(f"jitllm.{_MODULES.get(name, 'llm.errors')}")
        value = getattr(module, name)
    else:
        raise AttributeError(f"module 'jitllm' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
