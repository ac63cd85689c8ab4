"""What a threshold holds still: the recipe of each size or of one, the epochs or the steps.

The best recipe moves with the number of images, and "the same training" means something else for
every policy of length. Two further axes keep these questions apart, each combination with its own
curves and threshold: `tuned` (at each size, or at a reference size only) and `fixed` (epochs or
steps). All policies agree at the reference size.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysl.optim import Duration
from raysl.recipe import Recipe
from raysl.study.spec import Cell, Study

TUNED, FIXED = "tuned", "fixed"  # the axes, which read "tuned at each size, fixed epochs"
AT_EACH_SIZE = "at each size"
Params = Mapping[str, Any]


def at_only(size: int) -> str:
    """The value of `tuned` for a recipe that is frozen at one size: "at 1,024 only"."""
    return f"at {size:,} only"


def tuned_and_frozen(study: Study, *, reference: int) -> Study:
    """The study with both ways of tuning and both policies of length, and what each one asks.

    reference: one of its sizes. The best recipe found there is also confirmed at every other size;
        `base.duration` is the length there. A duration in `arm_overrides` holds for all policies.
    """
    sizes = study.axes[study.size_axis]
    if reference not in sizes:
        raise ValueError(
            f"reference must be one of the sizes, {', '.join(map(str, sizes))}; not {reference}."
        )
    if study.space is None or study.trials < 1:
        raise ValueError("A recipe is tuned by a search: give a space and trials of at least 1.")
    axes = dict(study.axes) | {
        TUNED: (AT_EACH_SIZE, at_only(reference)),
        FIXED: ("epochs", "steps"),
    }
    meanings = {
        TUNED: {
            AT_EACH_SIZE: "Every size has its own best recipe, as for someone who tunes on the "
            "images at hand; that another search might find another recipe is not in the interval.",
            at_only(reference): f"The best recipe at {reference:,} is used at every size, so that "
            "only the number of images changes; it may suit sizes near that one best.",
        },
        FIXED: {
            "epochs": "Every image is seen equally often, so more images also mean more updates.",
            "steps": "Every size gets the same updates, so each of more images is seen less often.",
        },
    }
    resolve = FixedLength(resolve=study.resolve, size_axis=study.size_axis, reference=reference)
    return dataclasses.replace(
        study, axes=axes, resolve=resolve, reference_size=reference, meanings=meanings
    )


@dataclass(frozen=True, kw_only=True)
class FixedLength:
    """Resolves a cell as `resolve` does, then scales its training from that at the reference size.

    An arm that trains on equally many images at every size is left as it is.
    """

    resolve: Callable[[Recipe, Cell], Recipe]
    size_axis: str
    reference: int

    def __call__(self, base: Recipe, cell: Cell) -> Recipe:
        recipe = self.resolve(base, cell)
        there = self.resolve(base, {**cell, self.size_axis: self.reference})
        num_here, num_there = recipe.num_trained, there.num_trained
        if num_here == num_there:
            return recipe
        steps = there.duration.to_steps(num_examples=num_there, batch_size=there.batch_size)
        duration = Duration(steps, "steps")
        if cell[FIXED] == "epochs":
            duration = Duration(steps * there.batch_size / num_there, "epochs")
        return dataclasses.replace(recipe, duration=duration)


def reference_cell(study: Study, cell: Cell, cells: Sequence[Cell]) -> Cell:
    """The one of the study's cells whose best recipe is frozen for `cell`.

    The cell itself where the study has no reference size or the arm does not depend on the size.
    """
    if study.reference_size is None:
        return cell
    wanted = {**cell, study.size_axis: study.reference_size}
    found = [c for c in cells if all(c[axis] in (None, wanted[axis]) for axis in wanted)]
    if len(found) != 1:
        raise ValueError(
            f"{len(found)} cells of the study fit the reference {wanted}; an axis that matters at "
            f"{study.reference_size} must matter at every size."
        )
    return found[0]


def chosen_recipes(
    study: Study, cell: Cell, *, own: Params | None, frozen: Params | None
) -> list[tuple[Cell, Params]]:
    """The cells to confirm for one searched cell, each with its parameters.

    own, frozen: the best of its own search and of its reference's; None where no trial of that
    search has finished. Equal recipes are one cell, which belongs to both values of `tuned`.
    """
    if own is not None and frozen is not None:
        own_recipe, frozen_recipe = (study.recipe(cell, params, 0) for params in (own, frozen))
        if own_recipe.digest() == frozen_recipe.digest():
            return [(cell, own)]
    found: list[tuple[Cell, Params]] = []
    if own is not None:
        found.append(({**cell, TUNED: AT_EACH_SIZE}, own))
    if frozen is not None:
        assert study.reference_size is not None, "without one, frozen is own"
        found.append(({**cell, TUNED: at_only(study.reference_size)}, frozen))
    return found
