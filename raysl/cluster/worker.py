"""The Tune trial: it runs one raysl trial after the other in a thread of its own process."""

import gc
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ray import tune

from raysl.cluster.task import News, Task
from raysl.result import TrialResult

NEWS_SECONDS = 1.0  # how often a running trial answers Tune, and so how soon it hears of a stop
SAVE_SECONDS = 8.0  # what a running trial gets to save in; Tune kills 10 s after the stop


class Running:
    """A trial in a thread, seen through its latest news; `result` when it is over.

    The thread ends in a result (also a failed one) or, when interrupted, in none.
    """

    def __init__(self, task: Task):
        self.task = task
        self.interrupt = threading.Event()
        self.stop = threading.Event()
        self.changed = threading.Event()
        self.news = News()
        self.result: TrialResult | None = None
        self.thread = threading.Thread(target=self._run, name="raysl trial", daemon=True)
        self.thread.start()

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Called by a trial in this process; the moment when a stop takes effect."""
        from raysl.train import StopTrial

        self.announce(News(step, dict(metrics)))
        if self.stop.is_set():
            raise StopTrial("a scheduler ended the trial early")

    def announce(self, news: News) -> None:
        """Evaluations are passed on at once, since they are judged; other metrics by the clock."""
        self.news = news
        if any(name.startswith("val/") for name in news.metrics):
            self.changed.set()

    def _run(self) -> None:
        from raysl.recipe import Recipe
        from raysl.train import Interrupted
        from raysl.trial import failed

        task = self.task
        recipe = Recipe.from_dict(task.recipe)
        try:
            if task.resources.workers > 1:
                from raysl.cluster.group import run_group

                self.result = run_group(self)
            else:
                self.result = run_here(self)
        except Interrupted:
            pass
        except Exception as error:
            self.result = failed(recipe, error, final=task.final)
        finally:
            self.changed.set()


def run_here(running: Running) -> TrialResult:
    """The trial in this process, with as many threads as it has CPUs."""
    from raysl.data.store import load_splits
    from raysl.recipe import Recipe
    from raysl.trial import run_trial

    task = running.task
    torch.set_num_threads(task.resources.cpus_per_worker)
    return run_trial(
        Recipe.from_dict(task.recipe),
        load_splits(task.source),
        directory=Path(task.directory),
        final=task.final,
        device=task.device,
        report=running.report,
        interrupt=running.interrupt,
    )


class Trial(tune.Trainable):
    """Tune's view of a trial: each step waits for news, the last one brings the result.

    Reused for the next trial after a success. After a failure the step raises, so that Tune gives
    the next trial a fresh process (a CUDA error, for one, spoils the process for good).
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        resources = config["task"].resources
        if resources.workers > 1:
            # The workers bring their own CPUs; one held here while they wait could deadlock. A
            # bundle may not be empty, and every cluster has this resource.
            return tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])
        bundle = {"CPU": float(resources.cpus_per_worker)}
        if resources.gpus_per_worker:
            bundle["GPU"] = resources.gpus_per_worker
        return tune.PlacementGroupFactory([bundle])

    def setup(self, config: dict[str, Any]) -> None:
        self.running = Running(config["task"])
        self.failure: str | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Tune's question whether this process can take the next trial: always."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The latest news within a second, or the result; raises after a failed one was sent."""
        if self.failure is not None:
            raise RuntimeError(self.failure)
        running = self.running
        running.changed.wait(NEWS_SECONDS)
        running.changed.clear()
        if running.thread.is_alive() and running.result is None:
            return {"news": running.news}
        running.thread.join()
        result = running.result
        if result is None:
            raise RuntimeError("The trial was interrupted.")
        if running.task.device == "cuda":  # this process may idle while others use the device
            gc.collect()
            torch.cuda.empty_cache()
        if result.status == "failed":
            self.failure = result.error or "failed"
            return {"result": result}
        return {"result": result, "done": True}

    def end_early(self) -> None:
        """The scheduler's decision: the trial ends itself at its next report, with a result."""
        self.running.stop.set()

    def cleanup(self) -> None:
        """The study is being stopped: let the trial save."""
        self.running.interrupt.set()
        self.running.thread.join(SAVE_SECONDS)

    def pid(self) -> int:
        return os.getpid()
