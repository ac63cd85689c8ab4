"""A study in a plain loop: one trial after the other in this process, without Ray."""

import torch

from raysl.data.images import Splits
from raysl.study.ledger import Ledger
from raysl.trial import attempt_trial


def run_locally(ledger: Ledger, splits: Splits, *, device: torch.device | str = "cpu") -> None:
    """Run until the ledger has nothing left; Interrupted passes through, with the trial saved."""
    if ledger.study.resources.workers > 1:
        raise ValueError(
            "A trial with several workers needs Ray; leave out --local, or set workers=1."
        )
    if torch.device(device).type == "cpu":
        torch.set_num_threads(ledger.study.resources.cpus_per_worker)
    while not ledger.finished:
        proposal = ledger.next()
        assert proposal is not None, "a planner that waits while nothing runs"
        result = attempt_trial(
            proposal.recipe,
            splits,
            directory=ledger.directory(proposal),
            final=proposal.final,
            device=device,
            report=lambda step, metrics, p=proposal: ledger.progress(p, step, metrics),
        )
        ledger.record(proposal, result)
