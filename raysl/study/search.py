"""Optuna's samplers behind our own ask and tell: one Optuna study per cell."""

import inspect
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import optuna
from optuna.trial import Trial, TrialState

from raysl.config import unknown_name
from raysl.result import TrialResult
from raysl.rng import derive_seed
from raysl.study.planners import cell_label
from raysl.study.spec import Cell, Proposal, Space, Study


class _CellSearch:
    """The search of one cell: its Optuna study and the trials in flight."""

    def __init__(self, cell: Cell, space: Space):
        self.cell = cell
        self.optuna = optuna.create_study(direction="maximize")
        self.trials: dict[str, Trial] = {}  # by recipe digest, in flight
        probe = optuna.create_study().ask()
        space(probe, cell)
        self.has_parameters = bool(probe.params)

    @property
    def asked(self) -> int:
        return len(self.optuna.get_trials(deepcopy=False))


class Search:
    """`trials` proposals in every cell that the space suggests something for.

    Trial n of a cell draws from a sampler seeded by (search_seed, cell, n), so that what is
    proposed depends on the results alone: a restart proposes what the first run would have.
    Failed trials count as failed for Optuna, pruned ones as pruned with their last value.
    """

    def __init__(self, study: Study):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        check_sampler(study.sampler)
        self.study = study
        assert study.space is not None
        self.space = study.space
        self.cells = {cell_label(c): _CellSearch(c, self.space) for c in study.cells()}

    def ask(self) -> Proposal | None:
        while waiting := [c for c in self.cells.values() if self._wants_more(c)]:
            proposal = self._ask(min(waiting, key=lambda c: c.asked))  # furthest behind first
            if proposal is not None:
                return proposal
        return None

    def adopt(self, proposal: Proposal) -> None:
        search = self.cells[cell_label(proposal.cell)]
        while search.asked < proposal.number:  # repeated points were never stored
            search.optuna.add_trial(optuna.create_trial(state=TrialState.FAIL))
        search.optuna.enqueue_trial(dict(proposal.params))
        self._ask(search)

    def tell(self, proposal: Proposal, result: TrialResult) -> None:
        search = self.cells[cell_label(proposal.cell)]
        trial = search.trials.pop(proposal.recipe.digest())
        value = result.metrics.get(f"val/{self.study.objective}", math.nan)
        if result.status == "failed" or not math.isfinite(value):
            search.optuna.tell(trial, state=TrialState.FAIL)
        elif result.status == "stopped":
            trial.report(value, step=int(result.cost.get("steps", 0)))
            search.optuna.tell(trial, state=TrialState.PRUNED)
        else:
            search.optuna.tell(trial, value)

    @property
    def finished(self) -> bool:
        return not any(self._wants_more(c) or c.trials for c in self.cells.values())

    def outcomes(self) -> Iterator[tuple[Cell, Mapping[str, Any] | None]]:
        """(cell, parameters of its best trial on val) for every cell whose search is over.

        None in place of the parameters: no trial of the search has finished.
        """
        for search in self.cells.values():
            if self._wants_more(search) or search.trials:
                continue
            done = search.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if not search.has_parameters:
                yield search.cell, {}
            elif done:
                best = max(done, key=lambda t: (t.value, -t.number))
                yield search.cell, self._overrides(search, best.params)
            else:
                yield search.cell, None

    def planned(self) -> Iterator[tuple[Cell, int]]:
        """(cell, trials of its search) for every cell."""
        for search in self.cells.values():
            yield search.cell, self.study.trials if search.has_parameters else 0

    def importance(self) -> dict[str, dict[str, float]]:
        """Share of the objective's variance that each parameter explains, by cell (fANOVA)."""
        result = {}
        for label, search in self.cells.items():
            done = search.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if len(done) >= 4 and len({t.value for t in done}) > 1:
                evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
                result[label] = optuna.importance.get_param_importances(
                    search.optuna, evaluator=evaluator
                )
        return result

    def _wants_more(self, search: _CellSearch) -> bool:
        return search.has_parameters and search.asked < self.study.trials

    def _ask(self, search: _CellSearch) -> Proposal | None:
        number = search.asked
        label = cell_label(search.cell)
        # A quasi-random sequence is one sequence: its sampler counts in the Optuna study.
        draw = 0 if self.study.sampler == "QMCSampler" else number
        search.optuna.sampler = build_sampler(
            self.study.sampler,
            seed=derive_seed(self.study.search_seed, label, draw) % 2**32,
            num_trials=self.study.trials,
        )
        trial = search.optuna.ask()
        overrides = self.space(trial, search.cell)
        seed = self.study.search_seed
        recipe = self.study.recipe(search.cell, overrides, seed)
        digest = recipe.digest()
        if digest in search.trials or any(
            t.user_attrs.get("digest") == digest for t in search.optuna.get_trials(deepcopy=False)
        ):
            # A categorical space can repeat a point, which would only measure the same again.
            search.optuna.tell(trial, state=TrialState.FAIL)
            return None  # counts as asked, so that an exhausted space comes to an end
        trial.set_user_attr("digest", digest)
        search.trials[digest] = trial
        return Proposal(
            recipe=recipe,
            cell=search.cell,
            phase="search",
            seed=seed,
            number=number,
            params=trial.params,
        )

    def _overrides(self, search: _CellSearch, params: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.space(optuna.trial.FixedTrial(dict(params)), search.cell)


def check_sampler(name: str) -> None:
    """A sentence with the nearest name if Optuna has no such sampler, or it needs arguments."""
    names = [n for n in optuna.samplers.__all__ if n.endswith("Sampler") and n != "BaseSampler"]
    if name not in names:
        raise ValueError(unknown_name("Optuna sampler", name, names))
    if name in ("GridSampler", "PartialFixedSampler"):
        raise ValueError(
            f"{name} needs arguments of its own; name the values as axes of the study, or use "
            "TPESampler, RandomSampler, GPSampler or QMCSampler."
        )


def build_sampler(name: str, *, seed: int, num_trials: int) -> optuna.samplers.BaseSampler:
    """An Optuna sampler by name; a third of a short search is random before TPE models it."""
    kind = getattr(optuna.samplers, name)
    accepted = inspect.signature(kind).parameters
    wanted = {
        "seed": seed,
        "n_startup_trials": max(3, min(10, num_trials // 3)),
        "constant_liar": True,  # trials run side by side
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return kind(**{key: value for key, value in wanted.items() if key in accepted})
