"""What a person sees of a running study: one live display, or a line a trial without a terminal."""

import time
from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raysl.recipe import Recipe
from raysl.result import TrialResult
from raysl.study.budget import Capped
from raysl.study.spec import Planner, Proposal, Study

EVALUATION_WORK = 3000  # what evaluating a trial costs, in trained images; only for the time left


class ProgressDisplay:
    """An observer of the ledger; use it as a context manager around the run."""

    def __init__(self, study: Study, planner: Planner, console: Console):
        self.study = study
        self.capped = planner if isinstance(planner, Capped) else None
        self.console = console
        self.started_at = time.monotonic()
        self.running: dict[str, tuple[Proposal, Mapping[str, float]]] = {}
        self.num_done = self.num_failed = self.num_stopped = self.num_reused = 0
        self.work_done = self.work_reused = 0.0
        self.num_planned = sum(count for _, count in planner.planned())
        if self.capped is not None and self.capped.budget.trials is not None:
            self.num_planned = min(self.num_planned, self.capped.budget.trials)
        self.work_total = sum(n * work(study.recipe(cell, {}, 0)) for cell, n in planner.planned())
        self.share_reused = 0.0  # of the budget, by earlier runs of the same study
        self.best: tuple[float, Proposal] | None = None
        self.live = Live(
            get_renderable=self._render, console=console, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> "ProgressDisplay":
        self.share_reused = self.capped.share if self.capped else 0.0
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def reused(self, result: TrialResult) -> None:
        """Count a stored result of an earlier run of the same study."""
        self.num_reused += 1
        self.work_reused += work(Recipe.from_dict(result.recipe))

    def started(self, proposal: Proposal) -> None:
        self.running[proposal.recipe.digest()] = (proposal, {})

    def progress(self, proposal: Proposal, step: int, metrics: Mapping[str, float]) -> None:
        self.running[proposal.recipe.digest()] = (proposal, metrics)

    def finished(self, proposal: Proposal, result: TrialResult) -> None:
        self.running.pop(proposal.recipe.digest(), None)
        self.num_done += result.status == "ok"
        self.num_failed += result.status == "failed"
        self.num_stopped += result.status == "stopped"
        self.work_done += work(proposal.recipe)
        value = result.metrics.get(f"val/{self.study.objective}")
        if value is not None and (self.best is None or value > self.best[0]):
            self.best = (value, proposal)
        if not self.console.is_terminal:
            outcome = f"{value:.1f} % on val" if value is not None else result.status
            if result.status == "failed":
                outcome = f"failed: {(result.error or '').splitlines()[0]}"
            self.console.print(f"{self._counts()}  {label(proposal)}: {outcome}", soft_wrap=True)

    def _counts(self) -> str:
        settled = self.num_done + self.num_failed + self.num_stopped + self.num_reused
        # a search may run more trials than its grid, cheaper ones
        total = "" if self.study.planner == "threshold" else f"/{self.num_planned}"
        return f"[{settled}{total}]".replace("[", "\\[")

    def _render(self) -> Group:
        settled = self.num_done + self.num_failed + self.num_stopped + self.num_reused
        parts = [
            f"{settled} of {self.num_planned} trials done",
            f"{len(self.running)} running",
        ]
        if self.num_reused:
            parts.append(f"{self.num_reused} from before")
        if self.num_stopped:
            parts.append(f"{self.num_stopped} stopped early")
        parts.append(f"{self.num_failed} failed")
        elapsed = time.monotonic() - self.started_at
        parts.append(f"elapsed {duration(elapsed)}")
        if self.capped is not None and self.capped.budget:
            parts.append(f"{self.capped.share:.0%} of the budget of {self.capped.budget} used")
        share = max(self._share_of_work(), self._share_of_budget())
        if share > 0.02:
            parts.append(f"left about {duration(elapsed * (1 - share) / share)}")
        bar = Table.grid()  # a bar alone ends without a line break
        bar.add_row(ProgressBar(total=self.num_planned, completed=settled, width=60))
        lines: list[Text | Table] = [
            Text(self.study.question, style="bold"),
            Text(" · ".join(parts)),
            bar,
        ]
        table = Table.grid(padding=(0, 2))
        for proposal, metrics in list(self.running.values()):
            table.add_row(*running_row(proposal, metrics))
        lines.append(table)
        if self.best is not None:
            value, proposal = self.best
            lines.append(Text(f"best so far: {value:.1f} % on val, {label(proposal)}"))
        return Group(*lines)

    def _share_of_work(self) -> float:
        running = sum(
            work(p.recipe) * metrics.get("progress", 0.0) for p, metrics in self.running.values()
        )
        remaining = max(1.0, self.work_total - self.work_reused)
        return min(1.0, (self.work_done + running) / remaining)

    def _share_of_budget(self) -> float:
        """Of what was left of it at the start."""
        if self.capped is None or self.share_reused >= 1:
            return 0.0
        return (self.capped.share - self.share_reused) / (1 - self.share_reused)


def running_row(proposal: Proposal, metrics: Mapping[str, float]) -> list[str]:
    """A running trial: what it is, how far, its loss and images/s."""
    row = [label(proposal), f"{metrics.get('progress', 0.0):4.0%}"]
    if "train/loss" in metrics:
        row.append(f"loss {metrics['train/loss']:.3f}")
    if "images_per_second" in metrics:
        row.append(f"{metrics['images_per_second']:,.0f} images/s")
    return row


def label(proposal: Proposal) -> str:
    """A trial as a person names it: "simclr 500 seed 1"."""
    cell = " ".join(str(value) for value in proposal.cell.values() if value is not None)
    if proposal.phase == "search":
        return f"{cell} search {proposal.number + 1}"
    again = f" (attempt {proposal.attempt})" if proposal.attempt > 1 else ""
    return f"{cell} seed {proposal.seed}{again}"


def work(recipe: Recipe) -> float:
    """The cost of a trial in trained images, evaluation included."""
    return recipe.num_steps * recipe.batch_size + EVALUATION_WORK


def duration(seconds: float) -> str:
    """75 -> "1 min 15 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
