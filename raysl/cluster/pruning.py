"""ASHA for the search: each cell compares its own trials, and a pruned trial ends itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from raysl.cluster.mailbox import News
from raysl.study.spec import Proposal, Study

GRACE_PERCENT = 10.0  # of a trial's updates: nothing is judged before
REDUCTION = 3  # of the trials that reach 10, 30 and 90 % the best third goes on


class Pruning(FIFOScheduler):
    """First come, first served; trials of the search phase are judged by ASHA in their cell.

    Accuracy rises with the number of images, so trials of different cells do not compare. Only
    the result of a judgement differs from Ray's: instead of Tune taking the process away, the
    trial is told to end. So it evaluates what it has, writes its result and gives back whatever
    it holds, and its process can be reused.
    """

    def __init__(self, study: Study, proposals: Mapping[str, Proposal]):
        super().__init__()
        self.metric_name = f"val/{study.objective}"
        self.active = study.scheduler == "asha"
        self.proposals = proposals
        self.errors: dict[str, str] = {}  # by Tune's trial id
        self.judges: dict[str, ASHAScheduler] = {}
        self.judged: dict[str, ASHAScheduler] = {}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        news: News | None = result.get("news")
        proposal = self.proposals[trial.trial_id]
        if not self.active or news is None or proposal.phase != "search":
            return TrialScheduler.CONTINUE
        if self.metric_name not in news.metrics or "progress" not in news.metrics:
            return TrialScheduler.CONTINUE
        judge = self._judge(trial, proposal)
        percent = 100 * news.metrics["progress"]
        verdict = judge.on_trial_result(
            tune_controller, trial, {"percent": percent, "score": news.metrics[self.metric_name]}
        )
        if verdict == TrialScheduler.STOP:
            # The actor is idle between two steps, so this is done before its next one.
            trial.temporary_state.ray_actor.end_early.remote()
        return TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Keep the error: Tune tells it to the scheduler and then, without it, to the searcher."""
        if trial.error_file is not None:
            self.errors[trial.trial_id] = Path(trial.error_file).read_text().strip()

    def _judge(self, trial: Trial, proposal: Proposal) -> ASHAScheduler:
        if trial.trial_id not in self.judged:
            cell = repr(sorted(proposal.cell.items()))
            if cell not in self.judges:
                self.judges[cell] = ASHAScheduler(
                    time_attr="percent",
                    metric="score",
                    mode="max",
                    max_t=100,
                    grace_period=GRACE_PERCENT,
                    reduction_factor=REDUCTION,
                )
            self.judges[cell].on_trial_add(None, trial)
            self.judged[trial.trial_id] = self.judges[cell]
        return self.judged[trial.trial_id]

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it for a restore that raysl never asks for
