"""Every method by name. Adding one is a file beside its paper and a line here."""

from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.random import RandomEncoder
from raysl.methods.simclr import SimCLR
from raysl.methods.supervised import Supervised

METHODS: dict[str, type[Method]] = {
    "simclr": SimCLR,
    "scratch": Supervised,
    "random": RandomEncoder,
}

__all__ = ["METHODS", "Batch", "Method", "MethodConfig"]
