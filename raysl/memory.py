"""How this process keeps memory that was freed, for the next update to use."""

import ctypes

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
# For the environment of processes that have threads before raysl is imported, as Ray's workers:
# their arenas stay, and each trial's thread would get another, which cannot keep large blocks.
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
TOP_PAD_BYTES = 2**28  # asked of the system at a time; only what is written to becomes real


def keep_freed_memory() -> None:
    """Let glibc keep large freed blocks instead of giving each back to the system.

    A training on a processor frees and asks for the same large tensors in every update; given back
    they return as pages that the system clears one by one, which takes a third of the time. For
    the process, once; where there is no glibc nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_ARENA_MAX, 1)  # a trial may run in a thread, whose own arena would be too small
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_TOP_PAD, TOP_PAD_BYTES)
