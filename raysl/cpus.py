"""How many processors this process may use, and what they can do."""

import joblib
import torch


def usable_cpus() -> int:
    """Fewer than the machine has where an affinity, a batch system or a container says so."""
    return int(joblib.cpu_count())


def multiplies_bfloat16() -> bool:
    """Whether the processor computes in bfloat16 itself; elsewhere it is emulated, at a crawl."""
    found: bool = torch.backends.mkldnn.is_available() and (
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    return found
