"""The adaptive planner: buys the trials that tell most about the threshold, then stops.

The trials are confirmations: each recipe is fixed beforehand, and what earlier trials measured only
decides at which size and seed the next one is. Every decision is a function of the trials that were
proposed and those that have finished, so a restart goes on as if it had not been interrupted.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy.optimize import nnls

from raysl.analysis.curves import Array
from raysl.result import TrialResult
from raysl.study.budget import Budget, device_seconds
from raysl.study.design import Candidate, Choice, Design, Designer, Outcome
from raysl.study.estimate import planned_images
from raysl.study.spec import Cell, Proposal, Study
from raysl.study.stopping_rule import why_stop

START_IMAGES = 1000.0  # what starting and evaluating a trial costs beforehand, in trained images


def search_threshold(study: Study, design: Design, *, methods: tuple[str, ...] = ()) -> Study:
    """The study with its grid replaced by a search for the threshold of each method.

    methods: the arms that are compared with the baseline, by default the study's own. Arms that are
    not compared are left out. The search never costs more than the grid would.
    """
    methods = methods or (study.arm,)
    if study.baseline is None:
        raise ValueError("A search for a threshold needs a baseline; name the arm to beat.")
    if study.space is not None:
        raise ValueError(
            "A search for a threshold runs fixed recipes; tune them first, or use the grid."
        )
    if "_top" not in study.objective:
        raise ValueError(
            f"A search for a threshold takes its metric for percent, which {study.objective} may "
            "not be; give an accuracy such as linear_top1 as the objective, or use the grid."
        )
    further = [name for name in study.axes if name not in ("arm", study.size_axis)]
    if any(len(study.axes[name]) > 1 for name in further):
        raise ValueError(
            f"A search for a threshold varies the arm and {study.size_axis} only; give "
            f"{' and '.join(further)} one value, or use the grid."
        )
    if len(study.axes[study.size_axis]) < 2:
        raise ValueError(
            f"A search for a threshold needs at least two sizes of {study.size_axis}; with 8 to 15 "
            "over the range it can choose well."
        )
    axes = dict(study.axes) | {"arm": (study.baseline, *methods)}
    return dataclasses.replace(
        study,
        axes=axes,
        planner="threshold",
        design=dataclasses.replace(design, grid_seeds=len(study.confirm_seeds)),
        methods=methods,
        confirm_seeds=tuple(range(design.max_seeds)),
    )


class ThresholdPlanner:
    """Asks for the trial with the largest gain for its cost until enough is known.

    budget: what may be spent in all; the search also ends where a forecast says that its goal
    costs more. `Capped` keeps the budget, this only looks at what is left of it.
    """

    def __init__(self, study: Study, budget: Budget | None = None):
        assert study.baseline is not None
        assert study.design is not None
        self.study = study
        self.budget = budget or Budget()
        self.arms = (study.baseline, *study.methods)
        self.sizes = study.axes[study.size_axis]
        self.cells: dict[tuple[int, int | None], Cell] = {}
        for cell in study.cells():
            size = cell[study.size_axis]
            place = None if size is None else self.sizes.index(size)
            self.cells[self.arms.index(cell["arm"]), place] = cell
        flat = [(number, None) in self.cells for number in range(len(self.arms))]
        self.designer = Designer(self.sizes, flat, study.design)
        self.images = np.array(
            [
                [self._images(number, None if flat[number] else k) for k in range(len(self.sizes))]
                for number in range(len(self.arms))
            ]
        )  # [A, K]
        self.proposed: dict[str, Candidate] = {}  # by recipe digest, in the order of proposing
        self.results: dict[str, TrialResult] = {}

    def ask(self) -> Proposal | None:
        if self.stop_reason is not None:
            return None
        running = [c for digest, c in self.proposed.items() if digest not in self.results]
        choice = self._choice(running)
        if choice is None:
            return None
        proposal = self._proposal(choice)
        self.adopt(proposal)
        return proposal

    def adopt(self, proposal: Proposal) -> None:
        size = proposal.cell[self.study.size_axis]
        self.proposed[proposal.recipe.digest()] = Candidate(
            self.arms.index(proposal.cell["arm"]),
            None if size is None else self.sizes.index(size),
            proposal.number,
        )

    def tell(self, proposal: Proposal, result: TrialResult) -> None:
        self.results[proposal.recipe.digest()] = result

    def planned(self) -> Iterator[tuple[Cell, int]]:
        """The grid, whose cost is the most that will be spent."""
        for cell in self.cells.values():
            yield cell, self.designer.design.grid_seeds

    @property
    def stop_reason(self) -> str | None:
        """Why the search is over, in a sentence; None while it is not."""
        costs = self._costs()
        left = self._seconds_left(costs)
        trials = self.budget.trials
        found = why_stop(
            self.designer,
            self._finished(),
            costs,
            trials_left=math.inf if trials is None else trials - len(self.proposed),
            cost_left=left,
        )
        if found is None and left < costs.min():
            found = "The search has cost what the grid would, or the budget has, and ends."
        return found

    def _seconds_left(self, costs: Array) -> float:
        """Of the budget or the cost of the grid, whichever is less; inf before any result."""
        if not self.results:
            return math.inf
        spent = sum(device_seconds(result) or 0.0 for result in self.results.values())
        return min(self._grid_cost(costs), 3600 * (self.budget.device_hours or math.inf)) - spent

    def _grid_cost(self, costs: Array) -> float:
        """Of every cell with every seed that the grid has."""
        cells = sum(float(costs[arm, size or 0]) for arm, size in self.cells)
        return self.designer.design.grid_seeds * cells

    @property
    def finished(self) -> bool:
        if len(self.results) < len(self.proposed):
            return False
        return self.stop_reason is not None or self._choice([]) is None

    def _choice(self, running: list[Candidate]) -> Choice | None:
        costs = self._costs()
        left = self._seconds_left(costs) - sum(costs[c.arm, c.size or 0] for c in running)
        costs = np.where(costs > left, math.inf, costs)  # what cannot be paid is not chosen
        last = next(reversed(self.proposed.values()), None)
        return self.designer.choose(self._finished(), running, costs, last=last)

    def _images(self, arm: int, size: int | None) -> int:
        return planned_images(self.study.recipe(self.cells[arm, size], {}, 0))

    def _finished(self) -> list[Outcome]:
        """Finished trials in the order of their proposing, which a restart keeps."""
        metric = f"test/{self.study.objective}"
        found = []
        for digest, candidate in self.proposed.items():
            if digest in self.results:
                result = self.results[digest]
                value = result.metrics.get(metric) if result.status == "ok" else None
                finite = value is not None and math.isfinite(value)
                found.append(Outcome(candidate, value if finite else None))
        return found

    def _costs(self) -> Array:
        """Device-seconds of each arm at each size [A, K], as the finished trials took them."""
        rows = [
            (candidate.arm, self.images[candidate.arm, candidate.size or 0], seconds)
            for digest, candidate in self.proposed.items()
            if digest in self.results
            and (seconds := device_seconds(self.results[digest])) is not None
        ]
        return fit_costs(rows, self.images)

    def _proposal(self, choice: Choice) -> Proposal:
        c = choice.candidate
        cell = self.cells[c.arm, c.size]
        seed = self.study.confirm_seeds[c.seed]
        return Proposal(
            recipe=self.study.recipe(cell, {}, seed),
            cell=cell,
            phase="confirm",
            seed=seed,
            number=c.seed,
            why=self._why(choice),
        )

    def _why(self, choice: Choice) -> Mapping[str, Any]:
        """The decision as plain values, for the log of the search."""
        return {
            "reason": choice.reason,
            "gain": choice.gain,
            "sd": choice.sd,
            "verdicts": [
                {
                    "arm": arm,
                    "kind": verdict.kind,
                    "point": verdict.point,
                    "low": verdict.low,
                    "high": verdict.high,
                    "inside": verdict.masses.inside,
                }
                for arm, verdict in zip(self.study.methods, choice.verdicts, strict=False)
            ],
        }


def fit_costs(rows: list[tuple[int, float, float]], images: Array) -> Array:
    """Cost of each arm at each size [A, K]: its rate times its images, plus a start of all arms.

    rows: (arm, images, seconds) of finished trials; without any, the cost is counted in images. One
    trial of each arm at the mean rate is there beforehand, so that an unseen arm has a cost too.
    """
    num_arms = len(images)
    if not rows:
        return images + START_IMAGES
    arm, seen, seconds = (np.array(column) for column in zip(*rows, strict=True))
    mean_rate = seconds.sum() / (seen + START_IMAGES).sum()
    columns = np.zeros((len(rows) + num_arms + 1, num_arms + 1))
    columns[np.arange(len(rows)), arm] = seen
    columns[: len(rows), -1] = START_IMAGES
    typical = float(images.mean())
    columns[np.arange(len(rows), len(rows) + num_arms), np.arange(num_arms)] = 0.1 * typical
    columns[-1, -1] = 0.1 * START_IMAGES
    wanted = np.concatenate([seconds, columns[len(rows) :].sum(axis=1) * mean_rate])
    rates, _ = nnls(columns, wanted)
    costs: Array = rates[:-1, None] * images + rates[-1] * START_IMAGES
    return np.maximum(costs, 1e-9)
