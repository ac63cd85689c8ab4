"""What asks a trial to end: signals of the system, and what is raised for it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class StopTrial(Exception):
    """Raised by a report to end the trial early; what was measured so far is kept."""


class Interrupted(KeyboardInterrupt):
    """The process was asked to end; the state was saved and the same command resumes."""


@contextmanager
def signals(event: threading.Event | None) -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set while the block runs, in the main thread of a process.

    In another thread no handler can be set: there only the caller's `event` interrupts.
    """
    event = event or threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    watched = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: event.set()) for number in watched}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
