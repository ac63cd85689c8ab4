"""The grid of confirmation trials, and a search in each cell before it."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from raysl.result import TrialResult
from raysl.study.spec import Cell, Planner, Proposal, Study


class Grid:
    """Every cell with every confirmation seed, one repetition of all cells after the other.

    So the first results already span all cells, and a study that is cut short is balanced.
    """

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

    A cell goes on to confirmation as soon as its own search is over. A cell whose search has no
    finished trial is not confirmed: its failures are in the results.
    """

    def __init__(self, study: Study):
        from raysl.study.search import Search

        self.study = study
        self.search = Search(study)
        self.confirmed: set[str] = set()  # cells handed to confirmation
        self.waiting: deque[Proposal] = deque()
        self.running: set[str] = set()
        self.adopted: set[str] = set()

    def ask(self) -> Proposal | None:
        self._confirm_finished_cells()
        proposal = None if self.waiting else self.search.ask()
        if proposal is None:
            self._confirm_finished_cells()  # asking may have found the space exhausted
            if not self.waiting:
                return None
            proposal = self.waiting.popleft()
        self.running.add(proposal.recipe.digest())
        return proposal

    def adopt(self, proposal: Proposal) -> None:
        digest = proposal.recipe.digest()
        self.running.add(digest)
        if proposal.phase == "search":
            self.search.adopt(proposal)
        else:
            self.adopted.add(digest)

    def tell(self, proposal: Proposal, result: TrialResult) -> None:
        self.running.discard(proposal.recipe.digest())
        if proposal.phase == "search":
            self.search.tell(proposal, result)

    def planned(self) -> Iterator[tuple[Cell, int]]:
        for cell, num_trials in self.search.planned():
            yield cell, num_trials + len(self.study.confirm_seeds)

    @property
    def finished(self) -> bool:
        self._confirm_finished_cells()
        return not self.running and not self.waiting and self.search.finished

    def _confirm_finished_cells(self) -> None:
        for cell, params in self.search.best():
            key = cell_label(cell)
            if key in self.confirmed:
                continue
            self.confirmed.add(key)
            for number in range(len(self.study.confirm_seeds)):
                proposal = confirmation(self.study, cell, params, number)
                if proposal.recipe.digest() not in self.adopted:
                    self.waiting.append(proposal)


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


def build_planner(study: Study) -> Planner:
    """The planner that a study asks for."""
    return Grid(study) if study.space is None else SearchThenConfirm(study)
