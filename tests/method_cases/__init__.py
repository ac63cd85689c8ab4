"""What the conformance suite has to know of each method, a file for each family."""

from method_cases.baselines import CASES as BASELINES
from method_cases.case import Case
from method_cases.clustering import CASES as CLUSTERING
from method_cases.contrastive import CASES as CONTRASTIVE
from method_cases.generative import CASES as GENERATIVE
from method_cases.masked import CASES as MASKED
from method_cases.redundancy import CASES as REDUNDANCY
from method_cases.self_distillation import CASES as SELF_DISTILLATION

CASES: dict[str, Case] = {
    **GENERATIVE,
    **MASKED,
    **CONTRASTIVE,
    **REDUNDANCY,
    **SELF_DISTILLATION,
    **CLUSTERING,
    **BASELINES,
}

__all__ = ["CASES", "Case"]
