"""A study as a value: a question, its cells and seeds, and how to spend trials on them."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from raysl.config import to_dict
from raysl.recipe import Recipe
from raysl.result import TrialResult
from raysl.study.design import Design

Cell = Mapping[str, Any]  # {"arm": "simclr", "pool_size": 500}
Phase = Literal["search", "confirm"]


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one trial gets: `workers` processes (DDP when more than one), each with these."""

    workers: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0

    def __post_init__(self) -> None:
        for name in ("workers", "cpus_per_worker"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        gpus = self.gpus_per_worker
        if not (0 <= gpus <= 1 or (gpus > 1 and gpus % 1 == 0)):  # as Ray shares them out
            raise ValueError(
                f"gpus_per_worker must be a share of a GPU from 0 to 1 or a whole number of GPUs, "
                f"not {gpus:g}."
            )


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A recipe to run now, with its place in the study.

    seed: of the repetition (recipe.seed and recipe.subset_seed follow from it).
    params: what the search chose, by dotted recipe field; empty without a search.
    number: counts the proposals of one cell and phase from 0.
    attempt: 1, or more where earlier attempts failed.
    why: what a planner that decides by results knew and expected, as plain values.
    """

    recipe: Recipe
    cell: Cell
    phase: Phase
    seed: int
    number: int
    params: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 1
    why: Mapping[str, Any] = field(default_factory=dict)

    @property
    def final(self) -> bool:
        """Only the confirmation phase touches the test split."""
        return self.phase == "confirm"


class Planner(Protocol):
    """Decides the next trial. Whoever executes calls these from one thread.

    A restart first adopts every stored proposal in its first order, then tells the stored results:
    a planner then proposes what it would have proposed without the interruption.
    """

    def ask(self) -> Proposal | None:
        """A proposal to run now; None: nothing until something is told, or finished."""
        ...

    def tell(self, proposal: Proposal, result: TrialResult) -> None:
        """The result of a proposal that was asked for or adopted."""
        ...

    def adopt(self, proposal: Proposal) -> None:
        """Count a proposal of an earlier process as asked for."""
        ...

    def planned(self) -> Iterator[tuple[Cell, int]]:
        """(cell, its trials in both phases) for every cell, repeated points not known yet."""
        ...

    @property
    def finished(self) -> bool: ...

    @property
    def stop_reason(self) -> str | None:
        """Why it ended before all that it planned, in a sentence; None where it did not."""
        ...


class Space(Protocol):
    """A search space: suggests with an optuna Trial and returns {dotted recipe field: value}.

    A frozen dataclass, so that study.json can hold it. Nothing suggested for a cell (a baseline,
    say) means nothing to search there.
    """

    def __call__(self, trial: Any, cell: Cell) -> Mapping[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question with everything needed to answer it.

    data: a store's path or "sklearn:digits", opened by `load_splits` wherever a trial runs.
    axes: name -> values; the cells are their product. "arm" and "pool_size" are expected by
        the analysis.
    resolve: (base, cell) -> the recipe of that cell, seed not yet set. A recipe that ignores an
        axis (scratch ignores the pool) must not depend on it; equal recipes run once.
    arm, baseline: the comparison whose threshold is sought along `size_axis`.
    objective: a metric without its split; the search reads val/..., the report test/...
    space, trials: the search in each cell (skipped without a space); search_seed is its seed.
    scheduler: "asha" prunes trials of the search early (through Ray Tune).
    arm_overrides: {arm: {dotted recipe field: value}}, applied after `resolve`.
    reference_size: the best recipe found there is confirmed at every other size too (`policy`).
    meanings: {axis: {value: what that value of a further axis asks, in a sentence}}.
    planner, design: "threshold" searches the thresholds of `methods` by `design`; "grid" runs
        every cell with every seed.
    methods: the arms that are compared with the baseline; none: `arm` alone.
    """

    name: str
    question: str
    data: str
    base: Recipe
    axes: Mapping[str, tuple[Any, ...]]
    resolve: Callable[[Recipe, Cell], Recipe]
    arm: str
    baseline: str | None
    confirm_seeds: tuple[int, ...]
    size_axis: str = "pool_size"
    objective: str = "linear_top1"
    space: Space | None = None
    trials: int = 0
    search_seed: int = 1_000_000
    sampler: str = "TPESampler"
    scheduler: Literal["asha"] | None = None
    arm_overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    resources: Resources = Resources()
    reference_size: int | None = None
    meanings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    planner: Literal["grid", "threshold"] = "grid"
    design: Design | None = None
    methods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or self.name.startswith(".") or "/" in self.name or "\\" in self.name:
            raise ValueError(
                f"A study's name is that of its folder: {self.name!r} is empty, starts with a dot "
                "or holds a slash; give it another name=..."
            )

    def with_overrides(self, changes: Mapping[str, Any]) -> "Study":
        """A copy with recipe fields changed: {"method.temperature": 0.1, "scratch.optim.lr": ...}.

        A path that starts with another arm's name changes that arm only; any other path changes
        the base recipe, from which all arms take what they share.
        """
        arms = [arm for arm in self.axes.get("arm", ()) if arm != self.base.method_name]
        base_changes: dict[str, Any] = {}
        arm_changes = {arm: dict(fields) for arm, fields in self.arm_overrides.items()}
        for path, value in changes.items():
            head, _, rest = path.partition(".")
            if path in self.axes or path in ("seed", "subset_seed", "dataset"):
                raise ValueError(f"{path} is set by the study itself; change its own arguments.")
            if head in arms and rest:
                arm_changes.setdefault(head, {})[rest] = value
            else:
                base_changes[path] = value
        return dataclasses.replace(
            self, base=self.base.with_overrides(base_changes), arm_overrides=arm_changes
        )

    def cells(self) -> list[Cell]:
        """All distinct cells: those with equal recipes are one, its differing axes None."""
        found: dict[str, dict[str, Any]] = {}
        for values in itertools.product(*self.axes.values()):
            cell = dict(zip(self.axes, values, strict=True))
            digest = self.recipe(cell, {}, 0).digest()
            known = found.setdefault(digest, cell)
            known |= {axis: None for axis in cell if known[axis] != cell[axis]}
        return list(found.values())

    def check_baseline(self) -> None:
        """A sentence if the baseline is compared with itself."""
        if self.baseline in (self.methods or (self.arm,)):
            raise ValueError(
                f"The baseline {self.baseline} is also a method that is compared with it; give "
                "another, such as baseline=scratch."
            )

    def check_workers(self) -> None:
        """A sentence if a trained arm's batch cannot be shared out to the workers."""
        workers = self.resources.workers
        for cell in self.cells():
            recipe = self.recipe(cell, {}, 0)
            if recipe.trains_on != "nothing" and recipe.batch_size % workers:
                arm = recipe.method_name
                field = "batch_size" if arm == self.base.method_name else f"{arm}.batch_size"
                raise ValueError(
                    f"The batch of {recipe.batch_size} of {arm} cannot be shared out to {workers} "
                    f"workers; use --set {field}={recipe.batch_size // workers * workers}."
                )

    def describe(self) -> dict[str, Any]:
        """The content of study.json: what the results mean, readable without this code."""
        return {
            "name": self.name,
            "question": self.question,
            "data": self.data,
            "base": self.base.to_dict(),
            "axes": to_dict(self.axes),
            "arm": self.arm,
            "baseline": self.baseline,
            "size_axis": self.size_axis,
            "objective": self.objective,
            "confirm_seeds": list(self.confirm_seeds),
            "space": None if self.space is None else to_dict(self.space),
            "trials": self.trials,
            "search_seed": self.search_seed,
            "sampler": self.sampler if self.space else None,
            "scheduler": self.scheduler,
            "arm_overrides": to_dict(self.arm_overrides),
            "reference_size": self.reference_size,
            "meanings": to_dict(self.meanings),
            "planner": self.planner,
            "design": to_dict(self.design),
            "methods": list(self.methods),
        }

    def recipe(self, cell: Cell, params: Mapping[str, Any], seed: int) -> Recipe:
        """The cell's recipe with what a search chose and one repetition's seed."""
        seeds = {"seed": seed, "subset_seed": seed}
        own = self.arm_overrides.get(cell.get("arm", ""), {})
        return self.resolve(self.base, cell).with_overrides({**own, **params, **seeds})

    def digest(self) -> str:
        """Changes with anything that changes results, not with resources."""
        recipes = [self.recipe(cell, {}, 0).digest() for cell in self.cells()]
        text = json.dumps([self.describe(), recipes], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
