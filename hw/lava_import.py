"""The door to Lava: whether it can be imported, and how without noise. Imports nothing of Lava."""

from __future__ import annotations

import importlib.util
import multiprocessing
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock


class LavaError(RuntimeError):
    """Lava is missing, died or did not finish; the message is one sentence with advice."""


def available() -> str | None:
    """None when Lava can be imported here, else one sentence that says why not."""
    if importlib.util.find_spec("lava") is None:
        version = ".".join(map(str, sys.version_info[:2]))
        if sys.version_info[:2] != (3, 10):
            return (
                f"Lava 0.10.0 runs on Python 3.10 only and this is Python {version}; make a"
                " Python 3.10 environment and install spikeport there"
            )
        return (
            "Lava is not installed; install it with `pip install lava-nc==0.10.0 lava-dl==0.6.0"
            " setuptools`"
        )
    return None


def require() -> None:
    """Raise LavaError with the sentence of `available` where Lava cannot be imported."""
    reason = available()
    if reason is not None:
        raise LavaError(reason)


@contextmanager
def quiet() -> Iterator[None]:
    """Import or call Lava inside: its warnings are dropped, and its import neither changes the
    start method of the caller's `multiprocessing` nor fails because one was set before."""

    def keep(method: Any = None, force: bool = False) -> None:
        pass

    require()
    with warnings.catch_warnings(), mock.patch.object(multiprocessing, "set_start_method", keep):
        warnings.simplefilter("ignore")
        yield
