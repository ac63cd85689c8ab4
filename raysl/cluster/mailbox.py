"""News of a running trial, and the actor that carries them between the processes of a group.

Imports nothing large: the actor is a process of its own in every trial of several workers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

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


class Mailbox:
    """The actor between a group's workers and its Tune trial: news one way, orders the other."""

    def __init__(self) -> None:
        self.news = News()
        self.orders: set[str] = set()
        self.over = False
        self.failures: dict[int, TrialResult] = {}  # by rank, the first one first

    def post(self, news: News) -> set[str]:
        """From rank 0; answers with what it is to do: "stop", "interrupt"."""
        self.news = self.news.then(news)
        return self.orders

    def exchange(self, orders: set[str]) -> News:
        """From the Tune trial, every so often."""
        self.orders |= orders
        news, self.news = self.news, self.news.told()
        return news

    def close(self) -> None:
        """From rank 0 when its trial is over."""
        self.over = True

    def closed(self) -> bool:
        return self.over

    def fail(self, rank: int, result: TrialResult) -> None:
        """From a worker that raised; one that was killed says nothing."""
        self.failures[rank] = result

    def failed(self) -> dict[int, TrialResult]:
        return self.failures
