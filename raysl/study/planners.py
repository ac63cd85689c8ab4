"""The grid of confirmation trials, and a search in each cell before it."""

from collections.abc import Iterator, Mapping
from typing import Any

from raysl.result import TrialResult
from raysl.study.budget import Budget
from raysl.study.policy import chosen_recipes, reference_cell
from raysl.study.spec import Cell, Planner, Proposal, Study


class Grid:
    """Every cell with every confirmation seed, one repetition of all cells after the other.

    So the first results already span all cells, and a study that is cut short is balanced.
    """

    stop_reason = None

    def __init__(self, study: Study):
        self.study = study
        proposals = [
            confirmation(study, cell, {}, number)
            for number in range(len(study.confirm_seeds))
            for cell in study.cells()
        ]
        self.waiting = {p.recipe.digest(): p for p in proposals}
        self.running: set[str] = set()

    def ask(self) -> Proposal | None:
        if not self.waiting:
            return None
        digest = next(iter(self.waiting))
        self.running.add(digest)
        return self.waiting.pop(digest)

    def adopt(self, proposal: Proposal) -> None:
        digest = proposal.recipe.digest()
        self.waiting.pop(digest, None)
        self.running.add(digest)

    def tell(self, proposal: Proposal, result: TrialResult) -> None:
        self.running.discard(proposal.recipe.digest())

    def planned(self) -> Iterator[tuple[Cell, int]]:
        for cell in self.study.cells():
            yield cell, len(self.study.confirm_seeds)

    @property
    def finished(self) -> bool:
        return not self.waiting and not self.running


class SearchThenConfirm:
    """In each cell a search on val; its best recipe is then repeated with fresh seeds on test.

    With a reference size the best recipe found there is confirmed at every other size too, beside
    that size's own. A cell goes on to confirmation as soon as the searches that it needs are over.
    Nothing stands in for a search without a finished trial: what would have used its best recipe
    is not confirmed, and its failures are in the results.
    """

    stop_reason = None

    def __init__(self, study: Study):
        from raysl.study.search import Search

        self.study = study
        self.search = Search(study)
        cells = study.cells()
        self.references = {
            cell_label(c): cell_label(reference_cell(study, c, cells)) for c in cells
        }
        self.confirmations: dict[str, dict[str, Proposal]] = {}  # searched cell -> by digest
        self.asked: set[str] = set()  # confirmations
        self.running: set[str] = set()

    def ask(self) -> Proposal | None:
        # The second look: asking may have found a space exhausted, which ends its search.
        proposal = self._confirmation() or self.search.ask() or self._confirmation()
        if proposal is not None:
            self._started(proposal)
        return proposal

    def adopt(self, proposal: Proposal) -> None:
        if proposal.phase == "search":
            self.search.adopt(proposal)
        self._started(proposal)

    def tell(self, proposal: Proposal, result: TrialResult) -> None:
        self.running.discard(proposal.recipe.digest())
        if proposal.phase == "search":
            self.search.tell(proposal, result)

    def planned(self) -> Iterator[tuple[Cell, int]]:
        searched = [(cell, cell_label(cell), number) for cell, number in self.search.planned()]
        numbers = {label: number for _, label, number in searched}
        for cell, label, number in searched:
            reference = self.references[label]
            num_recipes = 2 if label != reference and number + numbers[reference] else 1
            yield cell, number + num_recipes * len(self.study.confirm_seeds)

    @property
    def finished(self) -> bool:
        return not self.running and self._confirmation() is None and self.search.finished

    def _started(self, proposal: Proposal) -> None:
        digest = proposal.recipe.digest()
        self.running.add(digest)
        if proposal.phase == "confirm":
            self.asked.add(digest)

    def _confirmation(self) -> Proposal | None:
        """The first confirmation that can run, in the order of the cells, not of the results.

        So a restart, which knows the results and not their order, proposes the same.
        """
        outcomes = {cell_label(cell): (cell, best) for cell, best in self.search.outcomes()}
        for label, (cell, own) in outcomes.items():
            reference = self.references[label]
            if label not in self.confirmations and reference in outcomes:
                self.confirmations[label] = self._confirm(cell, own, outcomes[reference][1])
            for digest, proposal in self.confirmations.get(label, {}).items():
                if digest not in self.asked:
                    return proposal
        return None

    def _confirm(
        self, cell: Cell, own: Mapping[str, Any] | None, frozen: Mapping[str, Any] | None
    ) -> dict[str, Proposal]:
        proposals = [
            confirmation(self.study, chosen, params, number)
            for chosen, params in chosen_recipes(self.study, cell, own=own, frozen=frozen)
            for number in range(len(self.study.confirm_seeds))
        ]
        return {proposal.recipe.digest(): proposal for proposal in proposals}


def confirmation(study: Study, cell: Cell, params: Mapping[str, Any], number: int) -> Proposal:
    """The `number`-th repetition of a cell, on the test split."""
    seed = study.confirm_seeds[number]
    recipe = study.recipe(cell, params, seed)
    return Proposal(
        recipe=recipe, cell=cell, phase="confirm", seed=seed, number=number, params=params
    )


def cell_label(cell: Cell) -> str:
    """A cell as one line of text: "arm=simclr pool_size=500"."""
    return " ".join(f"{name}={value}" for name, value in cell.items())


def build_planner(study: Study, budget: Budget | None = None) -> Planner:
    """The planner that a study asks for; one that searches looks at what the budget leaves."""
    if study.planner == "threshold":
        from raysl.study.threshold import ThresholdPlanner

        return ThresholdPlanner(study, budget)
    return Grid(study) if study.space is None else SearchThenConfirm(study)
