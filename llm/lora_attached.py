"""LoRA adapters in a loaded model: attached, changed and taken out between its runs."""

import math
import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

import numpy as np

from jitllm.backends.base import Weight
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.lora_graph import Adapted, Part, adapt

if TYPE_CHECKING:
    from jitllm.llm.lora import LoraAdapter
    from jitllm.llm.model import Model
    from jitllm.llm.state.engine import Engine


class Attached:
    """A LoRA adapter in a model; `LoraAdapter.attach` makes one and says how it works."""

    def __init__(self, stack: "_Stack", adapter: "LoraAdapter", scale: float) -> None:
        self._stack, self._adapter, self._scale = stack, adapter, _checked(scale)

    @classmethod
    def to(cls, model: "Model", adapter: "LoraAdapter", scale: float) -> "Attached":
        """Attach an adapter.

        Parameters
        ----------
        model : Model
        adapter : LoraAdapter
        scale : float
        """
        with _LOCK:
            stack = _stacks.setdefault(model, _Stack(model))
            attached = cls(stack, adapter, scale)
            stack.set([*stack.attached, attached])
            return attached

    @property
    def adapter(self) -> "LoraAdapter":
        """The adapter."""
        return self._adapter

    @property
    def scale(self) -> float:
        """How much of it is added.

        It can be set at any time, also to 0; a run under way in another thread may see the change
        at any layer. `ValueError` is raised if it is not finite.
        """
        return self._scale

    @scale.setter
    def scale(self, scale: float) -> None:
        self._scale = _checked(scale)
        self._stack.show_scales()

    def replace(self, adapter: "LoraAdapter", *, scale: float | None = None) -> None:
        """Put another adapter in the place of this one.

        Parameters
        ----------
        adapter : LoraAdapter
        scale : float, optional
            By default as it was.

        Raises
        ------
        ValueError
            If it was detached, or the new adapter is for another model; then nothing changes.
        """
        with _LOCK:
            before = self._adapter, self._scale
            if self not in self._stack.attached:
                raise ValueError(
                    "expected an adapter that is attached, got one that was detached; attach the "
                    "new one"
                )
            self._adapter, self._scale = adapter, before[1] if scale is None else _checked(scale)
            try:
                self._stack.set(self._stack.attached)
            except BaseException:
                self._adapter, self._scale = before
                raise

    def detach(self) -> None:
        """Take the adapter out; twice is allowed."""
        with _LOCK:
            if self in self._stack.attached:
                self._stack.set([each for each in self._stack.attached if each is not self])

    def __repr__(self) -> str:
        state = "attached" if self in self._stack.attached else "detached"
        return f"<Attached {self._adapter!r}: scale {self._scale:g}, {state}>"


class _Stack:
    """The adapters of one model, and the graph they make."""

    def __init__(self, model: "Model") -> None:
        self._model = ref(model)  # the model's end must not wait for its adapters
        self._base, self._side = model.engine.graph, 0
        self._state = Adapted(self._base), list[Attached]()
        self._shapes: dict[str, tuple[int, ...]] = {}

    @property
    def attached(self) -> list[Attached]:
        """The adapters in use."""
        return self._state[1]

    def set(self, attached: list[Attached]) -> None:
        """Run the model with these adapters; if that fails it stays as it was."""
        model, before = self._model(), self._state[0]
        if model is None or (model.engine.closed and not attached):
            self._state = before, []
            return
        engine = model.engine
        if not self.attached:
            self._base = engine.graph
        side = 1 - self._side  # other names than those of the weights in use
        adapted = adapt(self._base, _parts(model, attached), self._shape_of, f"lora.{side}.")
        try:
            for weight in adapted.weights:
                engine.backend.add_weight(weight)
            _show_scales(adapted, attached)
            engine.use(adapted.graph)
        except BaseException:
            _drop(engine, adapted)
            raise
        self._state, self._side = (adapted, attached), side
        self.show_scales()  # another thread may have set some meanwhile
        _drop(engine, before)

    def show_scales(self) -> None:
        """Make the adapters' scales those of the graph; no lock, so that hooks may do it."""
        _show_scales(*self._state)

    def _shape_of(self, name: str) -> tuple[int, ...]:
        model = self._model()
        if not self._shapes and model is not None:
            with GGUFFile(model.identity.paths) as file:
                self._shapes = {name: info.shape for name, info in file.tensors.items()}
        return self._shapes[name]


def _show_scales(adapted: Adapted, attached: list[Attached]) -> None:
    for i, each in enumerate(attached):
        adapted.set_scale(i, each.scale)


def _parts(model: "Model", attached: list[Attached]) -> list[Part]:
    for each in attached:
        if each.adapter.architecture != model.config.architecture:
            raise ValueError(
                f"expected a model of architecture {each.adapter.architecture!r}, got one of "
                f"{model.config.architecture!r}; the adapter is for another model"
            )
    return [Part(each.adapter.factors, each.adapter.alpha) for each in attached]


_LOCK = threading.RLock()
_stacks: "WeakKeyDictionary[Model, _Stack]" = WeakKeyDictionary()


def _drop(engine: "Engine", adapted: Adapted) -> None:
    """Free weights: backends keep the last that they got under a name."""
    if not engine.closed:
        for weight in adapted.weights:
            engine.backend.add_weight(Weight(weight.name, "F32", (1, 1), np.zeros(4, np.uint8)))


def _checked(scale: float) -> float:
    if not math.isfinite(scale):
        raise ValueError(f"expected a finite scale, got {scale}")
    return float(scale)
