"""A trial in a thread of its process, so that the process can answer while it runs.

What trains is imported when a trial needs it: the process of a trial with a group trains nothing,
and its group starts after its imports.
"""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from raysl.cluster.mailbox import News
from raysl.cluster.task import Task
from raysl.result import TrialResult
from raysl.signals import Interrupted, StopTrial


class Running:
    """A trial in a thread, seen through its news; `result` when it is over.

    The thread ends in a result (also a failed one) or, when interrupted, in none.
    run: carries the trial out, and heeds `stop` and `interrupt`.
    """

    def __init__(self, task: Task, run: Callable[["Running"], TrialResult]):
        self.task = task
        self.run = run
        self.interrupt = threading.Event()
        self.stop = threading.Event()
        self.changed = threading.Event()
        self.news = News()
        self.lock = threading.Lock()
        self.result: TrialResult | None = None
        self.thread = threading.Thread(target=self._run, name="raysl trial", daemon=True)
        self.thread.start()

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Called by a trial in this process; the moment when a stop takes effect."""
        self.announce(News(step, dict(metrics)))
        if self.stop.is_set():
            raise StopTrial("a scheduler ended the trial early")

    def announce(self, news: News) -> None:
        """Evaluations are passed on at once, since they are judged; other metrics by the clock."""
        with self.lock:
            self.news = self.news.then(news)
        if any(name.startswith("val/") for name in news.metrics):
            self.changed.set()

    @property
    def orders(self) -> set[str]:
        """What a trial in other processes is to be told: "stop", "interrupt"."""
        given = {"stop": self.stop, "interrupt": self.interrupt}
        return {name for name, event in given.items() if event.is_set()}

    def take_news(self) -> News:
        """All since the last call."""
        with self.lock:
            news, self.news = self.news, self.news.told()
        return news

    def _run(self) -> None:
        try:
            self.result = self.run(self)
        except Interrupted:
            pass
        except Exception as error:
            self.result = failed_trial(self.task, error)
        finally:
            self.changed.set()


def failed_trial(task: Task, error: Exception | str) -> TrialResult:
    """The result of a trial that raised `error`, or that ended by what it says."""
    from raysl.recipe import Recipe
    from raysl.trial import failed

    return failed(Recipe.from_dict(task.recipe), error, final=task.final)


def run_here(running: Running) -> TrialResult:
    """The trial in this process, with as many threads as it has CPUs."""
    import torch

    from raysl.data.store import load_splits
    from raysl.recipe import Recipe
    from raysl.trial import run_trial

    task = running.task
    torch.set_num_threads(task.cpus_per_worker)
    return run_trial(
        Recipe.from_dict(task.recipe),
        load_splits(task.source),
        directory=Path(task.directory),
        final=task.final,
        device=task.device,
        report=running.report,
        interrupt=running.interrupt,
    )
