"""Our strategy as a simulation: the designer of `raysl.study`, its stopping rule and its answer.

Trials cost what the world says; the designer is told the same plus what starting one costs. A run
that fails is tried again as the ledger does, paid each time, and then counts as failed. Whatever is
bought stays strictly within the budget: where the best trial does not fit, a cheaper one is taken.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from outcomes import ATTEMPTS, Outcome
from worlds import SIZES, World, grid_cost

from raysl.analysis.posterior import draw
from raysl.analysis.switch import switch_points
from raysl.analysis.verdict import judge
from raysl.rng import numpy_generator
from raysl.study.design import Design, Designer
from raysl.study.gain import Candidate
from raysl.study.gain import Outcome as Finished
from raysl.study.stopping_rule import why_stop

START_IMAGES = 1000.0  # of a trial, in images: what the planner assumes as well
MAX_TRIALS = 90  # three for each cell, where the planner ends as well
DRAWS = 4000


@dataclass(frozen=True, kw_only=True)
class Answer(Outcome):
    """What a search answers for one method; low and high are claimed as the 90 % interval.

    They hold 93 % of the probability, as everywhere in raysl. credible: ends of the 90 % that the
    method is held to at fixed budgets. several: the probability of two changes of sign. stopped: by
    the stopping rule, and why.
    """

    credible: tuple[float, float]
    several: float
    stopped: str | None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial under way: its attempts and their result are known once its worker is free."""

    candidate: Candidate
    value: float | None
    attempts: int
    cost: float  # of all attempts
    ends: float


@dataclass(kw_only=True)
class Study:
    """A search in a world: what was proposed, in that order, what runs, and what was spent."""

    world: World
    designer: Designer
    proposed: list[Candidate] = field(default_factory=list)
    values: dict[Candidate, float | None] = field(default_factory=dict)
    running: list[Trial] = field(default_factory=list)
    spent: float = 0.0  # trials that run included
    runs: int = 0
    now: float = 0.0
    stopped: str | None = None

    @property
    def finished(self) -> list[Finished]:
        """In the order of proposing, as the planner has them."""
        return [Finished(c, self.values[c]) for c in self.proposed if c in self.values]

    @property
    def candidates_running(self) -> list[Candidate]:
        return [trial.candidate for trial in self.running]

    @property
    def costs(self) -> np.ndarray:
        """What the designer is told.  # [A, 15]"""
        return self.world.cost + START_IMAGES


def search(
    world: World,
    *,
    budgets: Sequence[float] = (1 / 3,),
    workers: int = 4,
    asynchronous: bool = False,
    stop: bool = False,
    design: Design | None = None,
) -> list[tuple[Answer, ...]]:
    """For each budget, in full grids and increasing, the answer for every method.

    One search goes on from budget to budget. asynchronous: a free worker asks at once, with runs
    that last as long as they cost, else all workers ask together. stop: by the stopping rule, whose
    answer then stands for the later budgets too.
    """
    design = design or Design()
    designer = Designer(SIZES, [False] * len(world.curves), design)
    study = Study(world=world, designer=designer)
    found = []
    for budget in budgets:
        cap = budget * grid_cost(world)
        buy(study, cap, workers=workers, asynchronous=asynchronous, stop=stop)
        found.append(tuple(answers(study)))
    return found


def strategy(world: World, budget: float = 1 / 3, *, stop: bool = False) -> Answer:
    """The answer for method 1 with four workers."""
    return search(world, budgets=(budget,), stop=stop)[0][0]


def buy(study: Study, cap: float, *, workers: int, asynchronous: bool, stop: bool) -> None:
    """Go on until the cap has no room for another trial or the stopping rule holds."""
    while True:
        if stop and study.stopped is None:
            study.stopped = why_stop(
                study.designer,
                study.finished,
                study.costs,
                trials_left=MAX_TRIALS - len(study.proposed),
                cost_left=cap - study.spent,
            )
        while study.stopped is None and len(study.running) < workers:
            if not start(study, cap, asynchronous=asynchronous):
                break
        if not study.running:
            return
        study.now = min(trial.ends for trial in study.running)
        for trial in [trial for trial in study.running if trial.ends <= study.now]:
            study.values[trial.candidate] = trial.value
            study.running.remove(trial)


def start(study: Study, cap: float, *, asynchronous: bool) -> bool:
    """Whether one more trial was started, within the cap."""
    if len(study.proposed) >= MAX_TRIALS:
        return False
    payable = np.where(study.world.cost < cap - study.spent, study.costs, math.inf)
    choice = study.designer.choose(
        study.finished,
        study.candidates_running,
        payable,
        last=study.proposed[-1] if study.proposed else None,
    )
    if choice is None:
        return False
    c = choice.candidate
    assert c.size is not None
    cost = float(study.world.cost[c.arm, c.size])
    value, attempts = None, 0
    while value is None and attempts < ATTEMPTS and study.spent + cost < cap:
        value = study.world.run(c.arm, c.size, c.seed, attempts)
        attempts += 1
        study.spent += cost
    study.runs += attempts
    study.proposed.append(c)
    lasts = cost * attempts if asynchronous else 1.0
    study.running.append(
        Trial(
            candidate=c,
            value=value,
            attempts=attempts,
            cost=cost * attempts,
            ends=study.now + lasts,
        )
    )
    return True


def answers(study: Study) -> Iterator[Answer]:
    """What the finished trials say of each method, read as a report reads them."""
    rng = numpy_generator(study.designer.design.seed, "threshold")
    drawn = draw(study.designer.known(study.finished).posterior, DRAWS, rng)
    knots, margin = drawn.span.knots, study.designer.design.margin
    for arm in range(1, len(study.world.curves)):
        lead = drawn.errors(0) - drawn.errors(arm) - margin  # [J, K]
        sd = study.designer.known(study.finished).posterior.sd
        verdict = judge(knots, lead, sd=sd)
        tail = (1 - 0.9) / 2
        low, high = np.exp(np.quantile(switch_points(knots, lead), [tail, 1 - tail])).tolist()
        yield Answer(
            claim=verdict.kind,
            point=verdict.point,
            low=verdict.low,
            high=verdict.high,
            cost=study.spent / grid_cost(study.world),
            runs=study.runs,
            credible=(low, high),
            several=verdict.masses.several,
            stopped=study.stopped,
        )
