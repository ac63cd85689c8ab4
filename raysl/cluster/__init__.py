"""Running a study on Ray: the only package that imports ray, and only once it is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the package is imported in every process of Ray's, also in the small ones
    from raysl.study.ledger import Ledger

# What Ray adds, for estimates: measured with benchmarks/trial_overhead.py on 2 quiet cores.
START_SECONDS = 11.0  # once a study: starting Ray, and its first process with its imports
GROUP_START_SECONDS = 15.0  # once more for two or more workers, and again after a failure
TRIAL_SECONDS = 0.1  # a one-worker trial from the second on, in a process that is reused (0.06)
GROUP_SECONDS = 0.3  # a trial of two or more workers from the second on, in a group that is kept


def run_on_ray(
    ledger: Ledger,
    *,
    address: str | None = None,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    max_concurrent: int | None = None,
    token_path: Path | None = None,
) -> None:
    """Run all that the ledger proposes, on a Ray of its own or on the cluster at `address`.

    num_cpus, num_gpus: what an own Ray may use; all of this machine by default.
    max_concurrent: trials at a time; by default as many as fit the cluster as it is now, so a
        cluster that grows by itself needs the number.
    token_path: the cluster's token file; without one Ray's own places are searched.
    Trials write into the ledger's directories: with several machines these must be on a file
    system that all of them share. SIGINT and SIGTERM let running trials save, then raise
    KeyboardInterrupt; the same call resumes. Raises ValueError where no trial could ever fit.
    """
    study = ledger.study
    if study.scheduler is not None and study.base.num_evaluations < 2:
        raise ValueError(
            f"scheduler={study.scheduler!r} compares trials at evaluations before their end; set "
            "num_evaluations=10."
        )
    if study.resources.workers > 1 and 0 < study.resources.gpus_per_worker < 1:
        raise ValueError(
            f"gpus_per_worker={study.resources.gpus_per_worker:g} puts workers of one trial on "
            "the same GPU, which NCCL refuses; set gpus_per_worker=1, or workers=1."
        )
    from raysl.cluster.session import session
    from raysl.cluster.tune import run_study

    with session(
        address=address,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        token_path=token_path,
        groups=study.resources.workers > 1,
    ) as place:
        run_study(ledger, storage=place, max_concurrent=max_concurrent)
