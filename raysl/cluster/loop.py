"""Ray Train's function of every worker, apart from all that it needs.

The controller of a group imports this module too and never trains: what a worker imports takes
seconds, and a group starts after its controller.
"""

from typing import Any


def work(config: dict[str, Any]) -> None:
    """Take one trial after the other."""
    from raysl.cluster import rank

    rank.work(config)
