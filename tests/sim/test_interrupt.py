"""Ctrl-C, pressed for real."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from spikeport.sim import interrupt


@pytest.fixture(autouse=True)
def listening() -> Iterator[None]:
    """SIGINT is taken, which a suite in the background of a shell ignores, and as before later."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def broken_by(error: Exception) -> None:
    """As a library in C does, make an error of what Ctrl-C raises."""
    try:
        press()
    except KeyboardInterrupt:
        raise error from None


def test_what_ctrl_c_breaks_is_ctrl_c() -> None:
    for error in (ImportError("numpy is badly installed"), ValueError("no"), OSError("no")):
        with pytest.raises(KeyboardInterrupt), interrupt.heard():
            broken_by(error)
    with pytest.raises(KeyboardInterrupt), interrupt.heard():
        press()


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(ImportError, match=r"^lost$"), interrupt.heard():
        raise ImportError("lost")


def test_who_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupt.heard():
        press()
    with interrupt.undisturbed(), interrupt.deferred():
        press()
    with interrupt.deferred():
        press()
    press()
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_nothing_disturbs_what_is_being_ended() -> None:
    with interrupt.undisturbed():
        press()
    with pytest.raises(KeyboardInterrupt):
        press()


def test_what_is_made_is_known_before_it_can_be_lost() -> None:
    made: list[str] = []

    def work() -> None:
        with interrupt.deferred():
            press()
            press()
            made.append("child")
        made.append("too much")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert made == ["child"]
    with pytest.raises(OSError, match=r"^full$"), interrupt.deferred():
        raise OSError("full")


def test_other_threads_are_left_alone() -> None:
    done: list[str] = []

    def work() -> None:
        with interrupt.heard(), interrupt.undisturbed(), interrupt.deferred():
            done.append("work")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["work"]
