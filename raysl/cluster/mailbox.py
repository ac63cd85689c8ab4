"""News of a running trial, and the actor that carries trials, news and orders of a group.

Imports nothing large: the actor is a process of its own beside every group of workers.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from raysl.cluster.task import Task
from raysl.result import TrialResult


@dataclass(frozen=True)
class News:
    """What a running trial reported since it was last asked; step 0 before its first report."""

    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)

    def then(self, later: "News") -> "News":
        """Both in one, so that a quick report does not hide an evaluation before it."""
        return News(later.step, {**self.metrics, **later.metrics})

    def told(self) -> "News":
        """What is left once somebody was told."""
        return News(self.step)


@dataclass(frozen=True)
class Reply:
    """What a group answers its Tune trial; result is None while it runs and if it was saved."""

    news: News
    over: bool
    result: TrialResult | None


class Mailbox:
    """The actor between a group's workers and its Tune trial.

    Trials and orders go one way, news and results the other. Every call that waits does so in
    seconds of its own and in a thread of its own, so the actor needs one for each worker and a
    few more (`calls_at_once`).
    """

    def __init__(self, num_workers: int, *, idle_seconds: float):
        self.num_workers = num_workers
        self.idle_seconds = idle_seconds
        self.changed = threading.Condition()
        self.ended = False
        self.number = 0  # of trials so far
        self.ready: set[int] = set()  # ranks that wait for a trial
        self._open(None)

    def _open(self, task: Task | None) -> None:
        self.task = task
        self.news = News()
        self.orders: set[str] = set()
        self.over = False
        self.result: TrialResult | None = None
        self.failures: dict[int, TrialResult] = {}  # by rank, the first one first

    # From the Tune trial.

    def submit(self, task: Task, seconds: float) -> bool:
        """Hand the task to the workers; False if not all asked for one, or the group has ended."""
        with self.changed:
            self.changed.wait_for(lambda: self.ended or self._all_ready(), seconds)
            if self.ended or not self._all_ready():
                return False
            self.number += 1
            self.ready.clear()
            self._open(task)
            self.changed.notify_all()
            return True

    def exchange(self, orders: set[str], seconds: float) -> Reply:
        """Orders to rank 0 against its news; answers at once when the trial is over."""
        with self.changed:
            self.orders |= orders
            self.changed.wait_for(lambda: self.over, seconds)
            news, self.news = self.news, self.news.told()
            return Reply(news, self.over, self.result)

    def failed(self) -> dict[int, TrialResult]:
        """The workers that raised, by rank, the first one first."""
        return dict(self.failures)

    # From the workers.

    def take(self, rank: int) -> Task | None:
        """The next trial, once all workers ask for it; None ends the worker's part."""
        with self.changed:
            number = self.number
            self.ready.add(rank)
            self.changed.notify_all()
            # The others may start, or rank 0 evaluate, for longer than that.
            self.changed.wait_for(lambda: self.ended or self.number > number or self._all_ready())
            self.changed.wait_for(lambda: self.ended or self.number > number, self.idle_seconds)
            if self.number > number:
                return self.task
            self.end()
            return None

    def post(self, news: News) -> set[str]:
        """From rank 0; answers with what it is to do: "stop", "interrupt"."""
        with self.changed:
            self.news = self.news.then(news)
            return set(self.orders)

    def finish(self, result: TrialResult | None) -> None:
        """From rank 0 when its trial is over; None if it was interrupted and has saved."""
        with self.changed:
            self.over, self.result = True, result
            self.changed.notify_all()

    def finished(self, seconds: float) -> bool:
        """From the other ranks, who train until rank 0 is over."""
        with self.changed:
            return self.changed.wait_for(lambda: self.over, seconds)

    def fail(self, rank: int, result: TrialResult) -> None:
        """From a worker that raised; one that was killed says nothing."""
        self.failures[rank] = result

    # From either side.

    def end(self) -> None:
        """No trial after this one: who waits for the next gets None."""
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def _all_ready(self) -> bool:
        return len(self.ready) == self.num_workers


def calls_at_once(num_workers: int) -> int:
    """Threads of a mailbox: a call that waits from each worker, and what comes in between."""
    return 2 * num_workers + 4
