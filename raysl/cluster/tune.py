"""A study as one Tune run: the ledger proposes, Tune places, the ledger records."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from raysl.cluster.mailbox import News
from raysl.cluster.pruning import Pruning
from raysl.cluster.task import Task
from raysl.cluster.worker import Trial
from raysl.config import to_dict
from raysl.result import TrialResult
from raysl.study.ledger import Ledger
from raysl.study.spec import Proposal, Resources
from raysl.trial import failed


def run_study(ledger: Ledger, *, storage: Path, max_concurrent: int | None = None) -> None:
    """Run all that the ledger proposes on the Ray that this process is connected to."""
    slots = max_concurrent
    if slots is None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        slots = concurrent_trials(ledger.study.resources, nodes)
    search = LedgerSearch(ledger, storage=storage)
    with interruptible() as interrupted:
        tune.run(
            Trial,
            name="study",
            search_alg=search,
            scheduler=search.pruning,
            stop=StopAll(lambda: interrupted.is_set() or search.error is not None),
            num_samples=-1,
            max_concurrent_trials=slots,
            reuse_actors=True,
            storage_path=str(storage / "tune"),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            raise_on_failed_trial=False,
            trial_dirname_creator=lambda trial: trial.trial_id,
            verbose=0,
        )
    if search.error is not None:
        raise search.error
    if interrupted.is_set():
        raise KeyboardInterrupt


def concurrent_trials(resources: Resources, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many trials fit the nodes, or a sentence if not even one does.

    A worker needs all of its own on one node; the workers of a trial may be on several.
    """
    cpus, gpus = resources.cpus_per_worker, resources.gpus_per_worker
    num_workers = 0
    for node in nodes:
        fit = [node.get("CPU", 0) / cpus] + ([node.get("GPU", 0) / gpus] if gpus else [])
        num_workers += int(min(fit) + 1e-9)
    if num_workers < resources.workers:
        have = ", ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes)
        raise ValueError(
            f"A trial needs {resources.workers} workers with {cpus} CPUs and {gpus:g} GPUs each, "
            f"but the nodes have {have}; lower the study's resources, or, if the cluster grows by "
            "itself, say with --concurrent how many trials to run at a time."
        )
    return num_workers // resources.workers


class LedgerSearch(Searcher):
    """Tune's searcher in front of the ledger, which decides everything.

    An error of the ledger (a full disk) must end the study, but Tune would take it for the
    trial's: it is kept in `error` and the run stopped.
    """

    def __init__(self, ledger: Ledger, *, storage: Path):
        super().__init__()
        self.ledger = ledger
        self.storage = storage
        self.proposals: dict[str, Proposal] = {}  # by Tune's trial id
        self.results: dict[str, TrialResult] = {}
        self.pruning = Pruning(ledger.study, self.proposals)
        self.error: BaseException | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's config; None while the planner waits for running ones."""
        proposal = self._guard(self.ledger.next)
        if proposal is None:
            over = self.ledger.finished or self.error is not None
            return Searcher.FINISHED if over else None
        self.proposals[trial_id] = proposal
        study = self.ledger.study
        task = Task(
            recipe=proposal.recipe.to_dict(),
            # A path is made absolute, since processes differ in where they run.
            source=os.path.abspath(study.data) if os.path.exists(study.data) else study.data,
            directory=str(self.ledger.directory(proposal)),
            final=proposal.final,
            storage=str(self.storage / "train"),
            **to_dict(study.resources),
        )
        return {"task": task}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if result.get("result") is not None:
            self.results[trial_id] = result["result"]
        news: News | None = result.get("news")
        if news is not None and news.metrics:
            proposal = self.proposals[trial_id]
            self._guard(lambda: self.ledger.progress(proposal, news.step, news.metrics))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if trial_id not in self.proposals:
            return
        proposal = self.proposals.pop(trial_id)
        outcome = self.results.pop(trial_id, None) or (result or {}).get("result")
        if outcome is None:
            cause = self.pruning.errors.pop(trial_id, "").splitlines()[-12:]
            text = "\n".join(["The trial's process ended before it had a result.", *cause])
            outcome = failed(proposal.recipe, text, final=proposal.final)
        self._guard(lambda: self.ledger.record(proposal, outcome))

    def _guard(self, action: Callable[[], Any]) -> Any:
        if self.error is not None:
            return None
        try:
            return action()
        except Exception as error:
            self.error = error
            return None

    # Tune saves its searcher for a restore. raysl resumes from its own files, so: nothing.
    def save(self, checkpoint_path: str) -> None: ...
    def restore(self, checkpoint_path: str) -> None: ...
    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None: ...


class StopAll(tune.Stopper):
    """Ends the Tune run as soon as `over()` says so; no trial is stopped on its own."""

    def __init__(self, over: Callable[[], bool]):
        self.over = over

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.over()

    def __getstate__(self) -> dict[str, Any]:
        return {}


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second acts as it did before."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # Tune takes SIGUSR1 for itself
    before = {number: signal.getsignal(number) for number in watched}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(*_: object) -> None:
        event.set()
        restore()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    try:
        yield event
    finally:
        restore()
