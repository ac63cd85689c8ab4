"""How many processors this process may use."""

import joblib


def usable_cpus() -> int:
    """Fewer than the machine has where an affinity, a batch system or a container says so."""
    return int(joblib.cpu_count())
