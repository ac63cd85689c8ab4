"""The book of a running study: what was proposed, what came back, what is next."""

import contextlib
import dataclasses
import fcntl
import json
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from raysl.config import to_dict
from raysl.encoder import build_encoder
from raysl.recipe import Recipe
from raysl.result import TrialResult, read_result, write_atomically, write_result
from raysl.study.spec import Planner, Proposal, Study

STUDY_FILE = "study.json"
PROPOSAL_FILE = "proposal.json"
STOP_FILE = "stop.json"  # why the study ended before its plan, or null
RETRIES = 2


class Observer(Protocol):
    """Is told what happens in a study: the progress display, the MLflow mirror."""

    def started(self, proposal: Proposal) -> None: ...
    def progress(self, proposal: Proposal, step: int, metrics: Mapping[str, float]) -> None: ...
    def finished(self, proposal: Proposal, result: TrialResult) -> None: ...


class Ledger:
    """What stands between the planner and whoever executes, a plain loop or Ray.

    Every proposal is written to its trial's directory before it is run, every result after. On a
    restart the planner adopts what is stored; proposals without a result are run first and resume
    from their checkpoints. A failed trial is proposed again `retries` times, then kept as failed.
    """

    def __init__(
        self,
        study: Study,
        planner: Planner,
        directory: Path,
        *,
        observers: Sequence[Observer] = (),
        retries: int = RETRIES,
    ):
        self.study = study
        self.planner = planner
        self.root = directory.resolve()
        self.observers = observers
        self.retries = retries
        self.waiting: deque[Proposal] = deque()
        self.running: dict[str, Proposal] = {}
        self.results: dict[str, TrialResult] = {}
        self.root.mkdir(parents=True, exist_ok=True)
        stored = read_proposals(self.root)
        self.num_proposed = 1 + max((order for order, _ in stored), default=-1)
        for _, proposal in stored:
            planner.adopt(proposal)
        for _, proposal in stored:
            result = read_result(self.directory(proposal))
            if result is None or (result.status == "ok" and proposal.final and not result.final):
                self.waiting.append(proposal)
            else:
                self._settle(proposal, result)

    def next(self) -> Proposal | None:
        """A proposal to run now; None: nothing until something is recorded, or finished."""
        if self.waiting:
            proposal = self.waiting.popleft()
        else:
            asked = self.planner.ask()
            if asked is None:
                return None
            proposal = asked
            self._store(proposal)
        self.running[proposal.recipe.digest()] = proposal
        for observer in self.observers:
            observer.started(proposal)
        return proposal

    def record(self, proposal: Proposal, result: TrialResult) -> None:
        """Take a result in: propose a failed trial again, or store it and tell the planner."""
        self.running.pop(proposal.recipe.digest())
        if result.status == "failed" and proposal.attempt <= self.retries:
            again = dataclasses.replace(proposal, attempt=proposal.attempt + 1)
            self._store(again)
            self.waiting.append(again)
            return
        directory = self.directory(proposal)
        if read_result(directory) is None or result.attempts != proposal.attempt:
            result = dataclasses.replace(result, attempts=proposal.attempt)
            write_result(result, directory)
        self._settle(proposal, result)
        for observer in self.observers:
            observer.finished(proposal, result)

    def progress(self, proposal: Proposal, step: int, metrics: Mapping[str, float]) -> None:
        """Pass on what a running trial reports."""
        for observer in self.observers:
            observer.progress(proposal, step, metrics)

    @property
    def finished(self) -> bool:
        return not self.waiting and not self.running and self.planner.finished

    def directory(self, proposal: Proposal) -> Path:
        """The trial's directory, absolute."""
        return self.root / "trials" / proposal.recipe.digest()

    def _settle(self, proposal: Proposal, result: TrialResult) -> None:
        self.results[proposal.recipe.digest()] = result
        self.planner.tell(proposal, result)

    def _store(self, proposal: Proposal) -> None:
        directory = self.directory(proposal)
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / PROPOSAL_FILE
        if path.exists():
            order = json.loads(path.read_text())["order"]
        else:
            order = self.num_proposed
            self.num_proposed += 1
        content = {"order": order} | describe_proposal(proposal)
        write_atomically(path, json.dumps(content, indent=1))


def describe_proposal(proposal: Proposal) -> dict[str, Any]:
    """A proposal as plain values: the content of proposal.json, but for the order."""
    return {
        "digest": proposal.recipe.digest(),
        "cell": to_dict(proposal.cell),
        "phase": proposal.phase,
        "seed": proposal.seed,
        "number": proposal.number,
        "params": to_dict(proposal.params),
        "attempt": proposal.attempt,
        "why": to_dict(proposal.why),
        "recipe": proposal.recipe.to_dict(),
    }


def read_proposals(directory: Path) -> list[tuple[int, Proposal]]:
    """(order, proposal) of every stored trial, in the order of their first proposing."""
    stored = []
    for path in (directory / "trials").glob(f"*/{PROPOSAL_FILE}"):
        content = json.loads(path.read_text())
        proposal = Proposal(
            recipe=Recipe.from_dict(content["recipe"]),
            cell=content["cell"],
            phase=content["phase"],
            seed=content["seed"],
            number=content["number"],
            params=content["params"],
            attempt=content["attempt"],
            why=content.get("why", {}),  # absent in trials of earlier versions
        )
        stored.append((content["order"], proposal))
    return sorted(stored, key=lambda pair: pair[0])


@contextlib.contextmanager
def open_study(study: Study, runs: Path, *, command: str) -> Iterator[Path]:
    """The study's directory runs/name, made or found, locked while the block runs.

    Raises ValueError where the name is taken by other content, the folder cannot be written, the
    disk is too full or another process runs the study.
    """
    directory = runs / study.name
    try:
        (directory / "trials").mkdir(parents=True, exist_ok=True)
        lock = (directory / ".lock").open("w")
    except OSError as error:
        raise ValueError(
            f"The run folder {directory} cannot be written ({error.strerror}); "
            "choose another with --runs."
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(
                f"Study {study.name!r} in {directory} is being run by another process; wait for "
                "it, or give this one another name=..."
            ) from None
        _check_same(study, directory)
        content = study.describe() | {"digest": study.digest(), "command": command}
        write_atomically(directory / STUDY_FILE, json.dumps(content, indent=1))
        yield directory


def read_study(directory: Path) -> dict[str, Any]:
    """The stored description of a study, or a sentence that says what is missing."""
    path = directory / STUDY_FILE
    if not path.exists():
        known = sorted(p.parent.name for p in directory.parent.glob(f"*/{STUDY_FILE}"))
        hint = f"studies there: {', '.join(known)}." if known else "run one with `raysl run`."
        raise ValueError(f"There is no study in {directory}; {hint}")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _check_same(study: Study, directory: Path) -> None:
    if not (directory / STUDY_FILE).exists():
        return
    stored = read_study(directory)
    if stored["digest"] == study.digest():
        return
    now = json.loads(json.dumps(study.describe()))
    changed = [key for key in now if key in stored and stored[key] != now[key]]
    raise ValueError(
        f"Study {study.name!r} in {directory} was started with different content "
        f"({', '.join(changed) or 'its recipes'}); give this one another name=..., or move that "
        "folder away."
    )


def check_disk(study: Study, planner: Planner, runs: Path) -> None:
    """A sentence if the trials' encoders and checkpoints will not fit the disk of `runs`."""
    num_trials = sum(count for _, count in planner.planned())
    place = runs.resolve()
    while not place.exists():
        place = place.parent
    with torch.device("meta"):  # only the size is wanted
        encoder = build_encoder(study.base.encoder, channels=3, image_size=64)
    num_bytes = 4 * sum(p.numel() for p in encoder.parameters())
    # An encoder a trial stays; a running trial's checkpoint holds optimiser state and best weights.
    needed = (num_trials + 80) * num_bytes + 50 * 2**20
    free = shutil.disk_usage(place).free
    if free < needed:
        raise ValueError(
            f"The study needs about {needed / 2**30:.1f} GiB for its trials and {place} has "
            f"{free / 2**30:.1f} GiB free; free some, or choose another folder with --runs."
        )
