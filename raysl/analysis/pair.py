"""Two arms side by side at the sizes that both have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raysl.analysis.levels import Noise, group_cells, pooled_noise
from raysl.analysis.scores import Score
from raysl.analysis.switch import Array
from raysl.analysis.wording import arm_title, count

Cell = Mapping[int, float]  # seed -> metric


@dataclass(frozen=True, kw_only=True)
class Side:
    """One arm: its cell at each common size (one and the same if flat), and all its cells."""

    name: str
    is_flat: bool
    cells: tuple[Cell, ...]
    all_cells: tuple[Cell, ...]

    @property
    def means(self) -> Array:
        return np.array([np.mean(list(cell.values())) for cell in self.cells])  # [K]

    @property
    def counts(self) -> Array:
        return np.array([len(cell) for cell in self.cells], dtype=float)  # [K]

    @property
    def noise(self) -> Noise:
        return pooled_noise([list(cell.values()) for cell in self.all_cells])


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The comparison of `arm` with `baseline` at `sizes`, increasing."""

    arm: Side
    baseline: Side
    sizes: tuple[float, ...]
    notes: tuple[str, ...]

    @property
    def means(self) -> Array:
        """Arm minus baseline [K]."""
        return self.arm.means - self.baseline.means

    @property
    def is_flat(self) -> bool:
        """One of the two does not depend on the size."""
        return self.arm.is_flat or self.baseline.is_flat

    @property
    def is_paired(self) -> bool:
        """At every size both arms have the same seeds."""
        cells = zip(self.arm.cells, self.baseline.cells, strict=True)
        return all(a.keys() == b.keys() for a, b in cells)

    @property
    def is_complete(self) -> bool:
        """Paired, and the seeds are the same at all sizes."""
        return self.is_paired and len({frozenset(cell) for cell in self.arm.cells}) == 1

    def differences(self) -> list[list[float]]:
        """Of each pair of trials, by size; of paired arms only."""
        cells = zip(self.arm.cells, self.baseline.cells, strict=True)
        return [[a[seed] - b[seed] for seed in sorted(a)] for a, b in cells]

    def noise(self, assume_sd: float | None = None) -> Noise:
        """The sd of one trial, pooled over all cells of both arms."""
        cells = [*self.arm.all_cells, *self.baseline.all_cells]
        return pooled_noise([list(cell.values()) for cell in cells], assume_sd=assume_sd)

    @property
    def num_seeds(self) -> tuple[int, int]:
        counts = np.concatenate([self.arm.counts, self.baseline.counts])
        return int(counts.min()), int(counts.max())


def make_pair(scores: Sequence[Score], arm: str, baseline: str) -> Pair:
    """The two arms at their common sizes; ValueError where there are fewer than two."""
    cells = group_cells(scores)
    sizes = {name: {n for a, n in cells if a == name} for name in (arm, baseline)}
    flat = {name: None in found for name, found in sizes.items()}
    names = f"{arm_title(arm)} and {arm_title(baseline)}"
    if all(flat.values()):
        raise ValueError(f"Neither {names} depends on the size, so there is no threshold in it.")
    if any(flat.values()):
        common = sizes[baseline] if flat[arm] else sizes[arm]
    else:
        common = sizes[arm] & sizes[baseline]
    shared = tuple(sorted(n for n in common if n is not None))
    if len(shared) < 2:
        has = f"only {count(shared[0])}" if shared else "none"
        raise ValueError(
            f"A threshold needs at least two sizes that {names} both have; there is {has}."
        )
    alone = sorted(n for n in set.union(*sizes.values()) if n is not None and n not in common)
    notes = []
    if alone:
        listed = ", ".join(count(n) for n in alone)
        notes.append(f"Sizes that only one of the arms has are left out: {listed}.")

    def side(name: str) -> Side:
        keys = [(name, None if flat[name] else n) for n in shared]
        found = {k: {s.seed: s.value for s in cell} for k, cell in cells.items() if k[0] == name}
        return Side(
            name=name,
            is_flat=flat[name],
            cells=tuple(found[key] for key in keys),
            all_cells=tuple(found.values()),
        )

    return Pair(arm=side(arm), baseline=side(baseline), sizes=shared, notes=tuple(notes))
