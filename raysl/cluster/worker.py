"""The Tune trial: its process takes one raysl trial after the other."""

import time
from typing import Any

from ray import tune

from raysl.cluster.group import Groups
from raysl.cluster.memory import let_go
from raysl.cluster.running import Running, run_here
from raysl.cluster.task import Task
from raysl.memory import keep_freed_memory

NEWS_SECONDS = 1.0  # how often a running trial answers Tune, and so how soon it hears of a stop
SAVE_SECONDS = 8.0  # what a running trial gets to save in ...
STOP_SECONDS = 9.5  # ... and a group to end as well; Tune kills 10 s after the stop


class Trial(tune.Trainable):
    """Tune's view of a trial: each step waits for news, the last one brings the result.

    Reused for the next trial after a success, with its group of workers where there is one. After
    a failure the step raises, so that Tune gives the next trial a fresh process (a CUDA error, for
    one, spoils the process for good).
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        task: Task = config["task"]
        if task.workers > 1:
            # The workers bring their own CPUs; one held here while they wait could deadlock. A
            # bundle may not be empty, and every cluster has this resource.
            return tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])
        bundle = {"CPU": float(task.cpus_per_worker)}
        if task.gpus_per_worker:
            bundle["GPU"] = task.gpus_per_worker
        return tune.PlacementGroupFactory([bundle])

    def setup(self, config: dict[str, Any]) -> None:
        keep_freed_memory()
        self.groups = Groups()
        self._begin(config["task"])

    def _begin(self, task: Task) -> None:
        self.running = Running(task, self.groups.run if task.workers > 1 else run_here)
        self.failure: str | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Tune's question whether this process can take the next trial: always."""
        self._begin(new_config["task"])
        return True

    def step(self) -> dict[str, Any]:
        """The news within a second, or the result; raises after a failed one was sent."""
        if self.failure is not None:
            raise RuntimeError(self.failure)
        running = self.running
        running.changed.wait(NEWS_SECONDS)
        running.changed.clear()
        if running.thread.is_alive() and running.result is None:
            return {"news": running.take_news()}
        running.thread.join()
        result = running.result
        if result is None:
            raise RuntimeError("The trial was interrupted.")
        if result.status == "failed":
            self.failure = result.error or "failed"
            return {"result": result}
        let_go()
        return {"result": result, "done": True}

    def end_early(self) -> None:
        """The scheduler's decision: the trial ends itself at its next report, with a result."""
        self.running.stop.set()

    def cleanup(self) -> None:
        """The process is not needed any more, or the study is stopped: let the trial save."""
        stopped_at = time.monotonic()
        self.running.interrupt.set()
        self.running.thread.join(SAVE_SECONDS)
        self.groups.end(STOP_SECONDS - (time.monotonic() - stopped_at))
