"""What will be in a GGUF file: metadata and tensors, put down in any order."""

from math import prod
from typing import Any

from jitllm.llm.convert._weights import Weight
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.loaders.gguf_writer import array, scalar

_WHOLE = ("general.", "tokenizer.")  # keys that do not begin with the architecture
# small, and read by kernels that take float32 alone
_ALWAYS_F32 = (
    "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight", "position_embd.weight",
    "token_types.weight", "ssm_conv1d.weight", "shortconv.conv.weight", "indexer.proj.weight",
)  # fmt: skip


class Target:
    """A GGUF file to be.

    Parameters
    ----------
    architecture : str
        `general.architecture`.

    Attributes
    ----------
    values : dict of str to bytes
        Metadata, as `write_gguf` takes it.
    tensors : dict of str to Weight
    types : dict of str to str
        Types of tensors that have to have a certain one.
    """

    def __init__(self, architecture: str) -> None:
        self.architecture = architecture
        self.values: dict[str, bytes] = {}
        self.tensors: dict[str, Weight] = {}
        self.types: dict[str, str] = {}
        self.key("string", "general.architecture", architecture)

    def key(self, kind: str, name: str, value: Any) -> None:
        """Put down a value, or a list of them; None, "" and [] leave no trace.

        Parameters
        ----------
        kind : str
            As in the GGUF specification, of a list the kind of its items.
        name : str
            Without the architecture, except for `general.` and `tokenizer.`.
        value : object

        Raises
        ------
        ModelFormatError
            If the value is not of that kind.
        """
        if value is None or value == "" or (isinstance(value, list) and not value):
            return
        key = name if name.startswith(_WHOLE) else f"{self.architecture}.{name}"
        items = value if isinstance(value, list) else [value]
        if not all(_fits(kind, item) for item in items):
            raise ModelFormatError(f"{key}: expected {kind}, got {value!r:.60}")
        try:
            self.values[key] = (array if isinstance(value, list) else scalar)(kind, value)
        except OverflowError:
            raise ModelFormatError(f"{key}: expected {kind}, got {value!r:.60}") from None

    def reserve(self, key: str) -> None:
        """Keep the next place among the metadata for a key that is put down later."""
        self.values[key] = b""

    def ordered(self) -> dict[str, bytes]:
        """Return the metadata in llama.cpp's order: on the model as a whole, itself, its tokens."""

        def place(key: str) -> int:
            if key == "general.quantization_version":
                return 2
            if key.startswith("tokenizer."):
                return 3
            return int(not key.startswith("general.") or key == "general.file_type")

        return {key: self.values[key] for key in sorted(self.values, key=place)}

    def tensor(self, name: str, weight: Weight) -> None:
        """Put down a tensor.

        Raises
        ------
        ModelFormatError
            If there is one of that name already.
        """
        if name in self.tensors:
            raise ModelFormatError(f"expected one tensor {name!r}, got two")
        self.tensors[name] = weight

    def type_of(self, name: str, ftype: str) -> str:
        """Return the type for a tensor where matrices are to be of type `ftype`."""
        shape = self.tensors[name].shape
        if len(shape) <= 1 or name.endswith("_norm.weight"):
            return "F32"
        if forced := self.types.get(name):
            return forced
        if not name.endswith(".weight") or name.endswith(_ALWAYS_F32):
            return "F32"
        if ftype == "Q8_0" and shape[-1] % 32:
            return "F16"  # no whole blocks
        return ftype

    def counts(self) -> tuple[int, int, int, int]:
        """Return the number of parameters: all, shared, of one expert; and the number of experts.

        Experts of other numbers in some layers count with their mean.
        """
        total = shared = expert = experts = n_tensors = 0
        for name, weight in self.tensors.items():
            size = prod(weight.shape)
            total += size
            if "_exps." not in name or len(weight.shape) < 3:
                shared += size
                continue
            count = weight.shape[-3]
            expert, experts, n_tensors = expert + size // count, experts + count, n_tensors + 1
        return total, shared, expert, experts // n_tensors if n_tensors else 0


def _fits(kind: str, value: Any) -> bool:
    if kind in ("string", "bool"):
        return isinstance(value, str if kind == "string" else bool)
    numbers = (int, float) if kind.startswith("float") else (int,)
    return isinstance(value, numbers) and not isinstance(value, bool)
