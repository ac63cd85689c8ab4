"""Caps on what a study spends, around any planner."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from raysl.config import unknown_name
from raysl.result import TrialResult
from raysl.study.estimate import Timings
from raysl.study.spec import Cell, Planner, Proposal

HOUR = 3600.0
FORMS = "trials=40 or device-hours=6"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a study may spend in all, earlier runs of it included; None: no cap of that kind.

    device_hours: the seconds of every trial times its workers.
    """

    trials: int | None = None
    device_hours: float | None = None

    def __post_init__(self) -> None:
        if self.trials is not None and self.trials < 1:
            raise ValueError(f"A budget of trials must be at least 1, not {self.trials}.")
        hours = self.device_hours
        if hours is not None and not (hours > 0 and math.isfinite(hours)):
            raise ValueError(f"A budget of device-hours must be above 0, not {hours:g}.")

    @classmethod
    def parse(cls, *texts: str) -> "Budget":
        """From "trials=40", "device-hours=6" or both: all hold."""
        values: dict[str, float] = {}
        for text in texts:
            name, equals, value = (part.strip() for part in text.partition("="))
            if not equals:
                raise ValueError(f"A budget reads {FORMS}, not {text!r}.")
            if name not in ("trials", "device-hours"):
                raise ValueError(unknown_name("budget", name, ("trials", "device-hours")))
            if name in values:
                raise ValueError(f"The budget of {name} is given twice; give it once.")
            values[name] = _number(name, value)
        trials = values.get("trials")
        return cls(
            trials=None if trials is None else int(trials),
            device_hours=values.get("device-hours"),
        )

    def __bool__(self) -> bool:
        return self.trials is not None or self.device_hours is not None

    def __str__(self) -> str:
        parts = [] if self.trials is None else [num_trials_text(self.trials)]
        parts += [] if self.device_hours is None else [f"{self.device_hours:g} device-hours"]
        return " and ".join(parts)


class Capped:
    """A planner that asks another one for as long as the budget has room for the next trial.

    Trials count once they are asked for or adopted. Device-seconds are those of the results, plus
    what the running trials and the next one are expected to take (`Timings.at_most`): the cap is
    missed by no more than what the last running trials take beyond that. A failed attempt counts
    with its expectation; the ledger tries again without asking, so retries of the last trials can
    come on top.

    A proposal that the budget has no room for is held back. It is never stored, so a restart with
    a larger budget asks for it again; in this process it is proposed after all once the running
    trials have taken less than was set aside for them.
    """

    def __init__(
        self,
        inner: Planner,
        budget: Budget,
        seconds_of: Callable[[Proposal], float],
        *,
        adaptive: bool = False,
    ):
        """seconds_of: a first estimate of a proposal's device-seconds, called only where
        device-hours are capped. adaptive: what `inner` plans is the most that it may ask for.
        """
        self.inner = inner
        self.budget = budget
        self.timings = Timings(seconds_of)
        self.adaptive = adaptive
        self.num_trials = 0  # asked for or adopted
        self.spent = 0.0  # device-seconds
        self.running: dict[str, Proposal] = {}  # by recipe digest
        self.held: Proposal | None = None

    def ask(self) -> Proposal | None:
        proposal = self._next()
        if proposal is not None:
            self.held = None
            self._count(proposal)
        return proposal

    def adopt(self, proposal: Proposal) -> None:
        assert self.held is None, "a restart adopts before it asks"
        self.inner.adopt(proposal)
        self._count(proposal)

    def tell(self, proposal: Proposal, result: TrialResult) -> None:
        self.running.pop(proposal.recipe.digest(), None)
        if self.budget.device_hours is not None:
            failures = max(proposal.attempt, result.attempts) - 1
            taken = device_seconds(result)
            if taken is None:
                failures += 1
            elif result.status == "ok":
                self.timings.add(proposal, taken)
            self.spent += (taken or 0.0) + failures * self.timings.seconds(proposal)
        self.inner.tell(proposal, result)

    def planned(self) -> Iterator[tuple[Cell, int]]:
        return self.inner.planned()

    @property
    def finished(self) -> bool:
        """Where nothing runs this looks ahead, holding the next proposal for `ask`."""
        return self.inner.finished or (not self.running and self._used_up())

    @property
    def stop_reason(self) -> str | None:
        """Why the planner or the budget ended the study before its plan, in a sentence."""
        return self.inner.stop_reason or self.stopped

    @property
    def stopped(self) -> str | None:
        """Why the budget ended the study, in a sentence; None where it did not."""
        if self.inner.finished or self.running or not self._used_up():
            return None
        left = max(0, sum(count for _, count in self.inner.planned()) - self.num_trials)
        of_plan = f"{'up to ' if self.adaptive else ''}{left:,} of the plan left"
        if self._trials_are_up():
            cap = Budget(trials=self.budget.trials)
            return f"The budget of {cap} is used up: {self.num_trials:,} run, {of_plan}."
        cap = Budget(device_hours=self.budget.device_hours)
        run = f"{num_trials_text(self.num_trials)} took {hours(self.spent)}"
        if self.held is None:
            return f"The budget of {cap} is used up: {run}, {of_plan}."
        cell = " ".join(str(value) for value in self.held.cell.values() if value is not None)
        which = f"{cell} seed {self.held.seed}"
        needed = f"may take {hours(self.timings.at_most(self.held))}"
        if self.num_trials == 0:
            return f"The budget of {cap} has no room for the first trial: {which} {needed}."
        return (
            f"The budget of {cap} has no room for the next trial: {run}, and {which} {needed}; "
            f"{of_plan}."
        )

    @property
    def share(self) -> float:
        """How much of the tightest cap the finished trials have used, from 0 to 1."""
        shares = [0.0]
        if self.budget.trials is not None:
            shares.append((self.num_trials - len(self.running)) / self.budget.trials)
        if self.budget.device_hours is not None:
            shares.append(self.spent / (self.budget.device_hours * HOUR))
        return min(1.0, max(shares))

    def _next(self) -> Proposal | None:
        """The next proposal where there is room for it; one that there is no room for is held."""
        if self._trials_are_up() or self._seconds_left() <= 0:
            return None
        if self.held is None:
            self.held = self.inner.ask()
        if self.held is None or self._needed(self.held) > self._seconds_left():
            return None
        return self.held

    def _used_up(self) -> bool:
        if self._trials_are_up() or self._seconds_left() <= 0:
            return True
        return self._next() is None and self.held is not None

    def _trials_are_up(self) -> bool:
        return self.budget.trials is not None and self.num_trials >= self.budget.trials

    def _count(self, proposal: Proposal) -> None:
        self.num_trials += 1
        self.running[proposal.recipe.digest()] = proposal

    def _seconds_left(self) -> float:
        """Of the cap, after what is spent and what the running trials are expected to take."""
        if self.budget.device_hours is None:
            return math.inf
        reserved = sum(self._needed(proposal) for proposal in self.running.values())
        return self.budget.device_hours * HOUR - self.spent - reserved

    def _needed(self, proposal: Proposal) -> float:
        if self.budget.device_hours is None:
            return 0.0
        return proposal.attempt * self.timings.at_most(proposal)


def device_seconds(result: TrialResult) -> float | None:
    """What a trial took on all its workers; None where it was not measured."""
    return result.cost.get("device_seconds")


def num_trials_text(number: int) -> str:
    """ "1 trial", "1,200 trials"."""
    return f"{number:,} {'trial' if number == 1 else 'trials'}"


def hours(device_seconds: float) -> str:
    """7200.0 -> "2 device-hours"; three significant digits."""
    return f"{device_seconds / HOUR:.3g} device-hours"


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number) or (name == "trials" and not number.is_integer()):
        kind = "a whole number" if name == "trials" else "a number"
        raise ValueError(f"The budget of {name} must be {kind}, not {text!r}.")
    return number
