"""Numbers and names as a reader meets them in sentences, tables and figures."""

from collections.abc import Iterable, Mapping
from typing import Any

# Spellings that authors use; any other arm is shown under its own name.
_ARMS = {
    "simclr": "SimCLR",
    "moco": "MoCo",
    "byol": "BYOL",
    "simsiam": "SimSiam",
    "barlow_twins": "Barlow Twins",
    "vicreg": "VICReg",
    "swav": "SwAV",
    "dino": "DINO",
    "dinov2": "DINOv2",
    "ibot": "iBOT",
    "mae": "MAE",
    "beit": "BEiT",
    "ijepa": "I-JEPA",
    "pirl": "PIRL",
    "sela": "SeLa",
    "deepcluster": "DeepCluster",
    "deepclusterv2": "DeepClusterV2",
}
_UNITS = {"pool_size": "unlabelled images", "label_size": "labelled images"}
_PROBES = {
    "linear": "linear probe",
    "knn": "k-NN",
    "head": "own classifier head",
    "finetune": "fine-tuning",
}


def arm_title(arm: str) -> str:
    return _ARMS.get(arm, arm)


def unit_of(size_axis: str) -> str:
    """What a size counts: "unlabelled images"."""
    return _UNITS.get(size_axis, size_axis.replace("_", " "))


def metric_title(metric: str) -> str:
    """ "test/linear_top1" -> "linear probe top-1 (test, %)"; other names stay as they are."""
    split, _, name = metric.partition("/")
    probe, _, top = name.rpartition("_top")
    if not probe or not top.isdigit():
        return metric
    return f"{_PROBES.get(probe, probe.replace('_', ' '))} top-{top} ({split}, %)"


def count(number: float) -> str:
    """8000.0 -> "8,000"; fractions keep three significant digits."""
    if abs(number - round(number)) < 1e-9 or abs(number) >= 1000:
        return f"{round(number):,}"
    return f"{number:.3g}"


def about(number: float, digits: int = 2) -> str:
    """Rounded to significant digits: 60873 -> "61,000"."""
    return count(float(f"{number:.{digits - 1}e}"))


def limits(low: float, high: float, ends: tuple[float, float], digits: int = 2) -> tuple[str, str]:
    """Both limits of an interval in words; one at an end of the sizes tried is open there."""
    texts = tuple(_limit(value, ends, digits) for value in (low, high))
    if texts[0] == texts[1] and low < high and digits < 6:
        return limits(low, high, ends, digits + 1)
    return texts[0], texts[1]


def _limit(value: float, ends: tuple[float, float], digits: int) -> str:
    if value <= ends[0]:
        return f"below {count(ends[0])}"
    if value >= ends[1]:
        return f"above {count(ends[1])}"
    rounded = float(f"{value:.{digits - 1}e}")
    return count(rounded if ends[0] < rounded < ends[1] else value)


def listed(texts: Iterable[str], last: str = "and") -> str:
    """ "500, 2,000 and 8,000"."""
    *first, final = texts
    return f"{', '.join(first)} {last} {final}" if first else final


def points(value: float) -> str:
    """A metric or a difference with two decimals and a true minus sign."""
    return f"{value:.2f}".replace("-", "−")


def probability(value: float) -> str:
    """Two decimals, never a false 0 or 1."""
    if 0 < value < 0.005:
        return "less than 0.01"
    if 0.995 < value < 1:
        return "more than 0.99"
    return f"{value:.2f}"


def cell_text(cell: Mapping[str, Any]) -> str:
    """{"arm": "simclr", "pool_size": 500} -> "SimCLR, pool size 500"; None: any value."""
    parts = [arm_title(str(cell["arm"]))] if "arm" in cell else []
    for name, value in cell.items():
        if name != "arm" and value is not None:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            shown = count(value) if is_number else value
            parts.append(f"{name.replace('_', ' ')} {shown}")
    return ", ".join(parts)


def placed(where: Mapping[str, Any], sentence: str) -> str:
    """A sentence with the values of further axes before it: "Fixed epochs: ..."."""
    place = cell_text(where)
    return f"{place[0].upper()}{place[1:]}: {sentence}" if place else sentence


def number(value: object, *, digits: int = 4) -> str:
    """Any value of a recipe or of provenance: numbers short, with plain text as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.{digits}g}" if isinstance(value, float) else count(value)


def duration(seconds: float) -> str:
    """ "41 s", "12 min 5 s", "3 h 20 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"
