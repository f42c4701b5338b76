"""`fit`: the longest context, or the most layers on a device, that a budget of bytes allows."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from jitllm.backends.base import PAGE_TOKENS
from jitllm.llm.api import checked_n_ctx
from jitllm.llm.errors import BackendError
from jitllm.llm.placing import AUTO, Placing
from jitllm.llm.plan import Budget, Plan, fit_together, n_bytes, open_sizes, plan_of
from jitllm.llm.plan_auto import Search, largest
from jitllm.llm.plan_sizes import ModelSizes, PlanSettings
from jitllm.llm.state.reserve import MAX_TOKENS

Ref = str | os.PathLike[str]
Model = Ref | Mapping[str, Any]


@dataclass(frozen=True)
class Fit:
    """What fits: the plans of models that are loaded together.

    Attributes
    ----------
    plans : tuple of Plan
        In the order of the models. Each was made for the `cache_bytes` that it names: load with
        them, and no more is ever allocated.
    """

    plans: tuple[Plan, ...]

    @property
    def n_ctx(self) -> int:
        """The context of the first model."""
        return self.plans[0].n_ctx

    @property
    def total(self) -> int:
        """Bytes of all models on all devices."""
        return sum(plan.total for plan in self.plans)

    def fits(self, budget: Budget) -> bool:
        """Return whether all models together stay within a budget; see `Plan.fits`."""
        return fit_together(self.plans, budget)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as dicts, lists, texts and numbers."""
        return {"plans": [plan.as_dict() for plan in self.plans], "total": self.total}

    def plot(self, ax: Any = None) -> Any:
        """Draw a bar for each device, of all models; see `Plan.plot`."""
        from jitllm.llm.plan_view import picture

        return picture(self.plans, ax)

    def __str__(self) -> str:
        return "\n\n".join([*map(str, self.plans), f"{self.total:,} bytes in all"])

    def _repr_html_(self) -> str:
        from jitllm.llm.plan_view import html

        return "".join(map(html, self.plans))


def fit(
    models: Model | Sequence[Model],
    budget: Budget,
    *,
    max_ctx: int = 0,
    progress: bool = True,
    **settings: Any,
) -> Fit:
    """Return the largest configuration of models, loaded together, that a budget allows.

    Where `n_gpu_layers` is "auto", most layers on the devices are looked for, at the given `n_ctx`:
    as many as possible for the first model, then for the second, in the order of
    `jitllm.llm.plan_auto`. Else the longest context is, the same for all models that were given no
    `n_ctx`. Only sequences that were planned for (`n_sequences`) get memory. Several devices share
    the layers by their budgets, unless `split` says otherwise.

    Parameters
    ----------
    models : str, path or mapping, or a sequence of them
        References, as for `jitllm.load`, or mappings of "ref" and settings of this model.
    budget : int, str, or mapping of str to these
        As for `Plan.fits`.
    max_ctx : int
        Longest context to try; 0 for what the first model was made for.
    progress : bool
        As for `jitllm.load`.
    **settings
        Of all models: those of `jitllm.plan`.

    Raises
    ------
    TypeError, ValueError
        If an argument is none of what it may be.
    BackendError
        If even the smallest configuration does not fit; and as for `jitllm.plan`.
    """
    alone = isinstance(models, str | os.PathLike | Mapping)
    given = [models] if alone else list(models)  # type: ignore[arg-type]
    if not given:
        raise ValueError("expected at least one model, got none")
    with ExitStack() as stack:
        opened = [
            stack.enter_context(_opened(model, settings, budget, progress=progress))
            for model in given
        ]
        most = checked_n_ctx(max_ctx) or opened[0].config.max_position_embeddings
        if any(sizes.settings.n_gpu_layers == AUTO for sizes in opened):
            return Fit(_most_layers(opened, budget, most))
        return Fit(_longest(opened, budget, most))


def _opened(model: Any, common: Mapping[str, Any], budget: Budget, *, progress: bool) -> ModelSizes:
    own = dict(model) if isinstance(model, Mapping) else {"ref": model}
    if "ref" not in own:
        raise ValueError(f'expected "ref" among the settings of a model, got {sorted(own)}')
    ref, settings = own.pop("ref"), PlanSettings(**{**common, **own})
    checked_n_ctx(settings.n_ctx)
    return open_sizes(ref, settings, progress=progress, is_tight=True)


def _longest(opened: Sequence[ModelSizes], budget: Budget, most: int) -> tuple[Plan, ...]:
    if all(sizes.settings.n_ctx for sizes in opened):
        raise ValueError('expected n_ctx=0 where it is looked for, or n_gpu_layers="auto"')

    def plans(n_ctx: int) -> tuple[Plan, ...]:
        return tuple(
            plan_of(s, s.settings.n_ctx or n_ctx, _by_budget(s.settings.placing, budget))
            for s in opened
        )

    def fits(n_ctx: int) -> bool:
        return fit_together(plans(n_ctx), budget)

    # runs of more rows may need less: their values find other places in the memory of a program
    n_ctx = largest(1, most, fits)
    ends = [min(most, end) for end in range(MAX_TOKENS, 0, -PAGE_TOKENS)]
    n_ctx = next((end for end in ends if end > n_ctx and fits(end)), n_ctx)
    if not n_ctx:
        raise _too_little(plans(1), budget, "a context of one token")
    return plans(n_ctx)


def _most_layers(opened: Sequence[ModelSizes], budget: Budget, most: int) -> tuple[Plan, ...]:
    plans = list[Plan]()
    for sizes in opened:
        placing = _by_budget(sizes.settings.placing, budget)
        if placing.n_gpu_layers == AUTO:
            placing = replace(placing, n_gpu_layers=0)
        plans.append(plan_of(sizes, sizes.settings.n_ctx or most, placing))
    if not fit_together(plans, budget):
        raise _too_little(plans, budget, "no layer on the devices")
    for i, sizes in enumerate(opened):
        given = sizes.settings.placing
        if given.n_gpu_layers == AUTO:

            def fits(found: Plan, i: int = i) -> bool:
                return fit_together([*plans[:i], found, *plans[i + 1 :]], budget)

            fills = given.split is None and isinstance(budget, Mapping) and len(given.devices) > 1
            found = Search(sizes, fits, fills).most(plans[i].n_ctx, _by_budget(given, budget))
            plans[i] = found or plans[i]
    return tuple(plans)


def _by_budget(placing: Placing, budget: Budget) -> Placing:
    """Return a placing whose devices share by their budgets, unless it says otherwise."""
    if placing.split is not None or not isinstance(budget, Mapping):
        return placing
    return replace(placing, split=[n_bytes(budget.get(d, 0)) for d in placing.devices])


def _too_little(plans: Sequence[Plan], budget: Budget, what: str) -> BackendError:
    devices = dict.fromkeys(share.device for plan in plans for share in plan.shares)
    needs = {name: sum(plan.share(name).total for plan in plans) for name in devices}
    return BackendError(
        f"expected a budget for {what}, which needs {needs} bytes; got {budget}: use a smaller "
        "model, a smaller cache type, or fewer sequences"
    )
