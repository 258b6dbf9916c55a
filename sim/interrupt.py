"""Ctrl-C, heard as what it is.

Imports the standard library only. Stands on its own: deployment folders carry this file.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def heard() -> Iterator[None]:
    """Inside, what Ctrl-C breaks ends as KeyboardInterrupt. Libraries in C make other errors of it:
    numpy, stopped while it is imported, says that it is badly installed."""
    pressed = False

    def stop(*_: Any) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    if not _ours() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    try:
        signal.signal(signal.SIGINT, stop)
        yield
    except Exception:
        if pressed:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside, Ctrl-C does nothing: a second one must not stop what the first one began to end."""
    if not _ours():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, Ctrl-C waits for the end of the block: what is made there is known before it can be
    lost. Processes that are started there hear Ctrl-C as ever."""
    pressed: list[int] = []
    if not _ours() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _ours() -> bool:
    """Whether Ctrl-C reaches this thread, which may then say what it does: only the main one."""
    return threading.current_thread() is threading.main_thread()
