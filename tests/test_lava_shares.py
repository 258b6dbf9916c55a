"""In-process Lava by several processes: the bits of one, whoever dies."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport import backends, lava_shares
from spikeport.hw import lava_inprocess
from spikeport.hw.lava_run import LavaError
from spikeport.sim import reference
from spikeport.sim.net import FixedNet
from spikeport.sim.trace import Trace

RandomNet = Callable[..., tuple[FixedNet, NDArray[np.int64]]]
FEW = 3  # chip steps of the least share

PLAYERS = """
import os, signal
from pathlib import Path
from spikeport.lava_shares import play_share

def die(told):
    os.kill(os.getpid(), signal.SIGKILL)

def die_once(told):
    seen = Path(__file__).with_name(Path(told).name)
    if seen.exists():
        play_share(told)
    else:
        seen.touch()
        os.kill(os.getpid(), signal.SIGKILL)

def fail(told):
    raise OSError("the disk is full")
"""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares of a few samples."""
    monkeypatch.setattr(lava_shares, "LEAST_STEPS", FEW)


@pytest.fixture
def played_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: None
) -> Callable[[str], None]:
    """`played_by(name)`: shares are played by that function of PLAYERS, in their own processes."""
    (tmp_path / "some_players.py").write_text(PLAYERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    # The parent tells its children the module and name of what it would call.
    return lambda name: monkeypatch.setattr(
        lava_shares, "play_share", _named(name, module="some_players")
    )


def _named(name: str, *, module: str) -> Callable[[str], None]:
    def player(told: str) -> None:
        raise AssertionError(told)

    player.__name__, player.__module__ = name, module
    return player


def assert_same(left: Trace, right: Trace) -> None:
    """In every array, recorded or not."""
    assert list(left.populations) == list(right.populations)
    for name, part in left.populations.items():
        for what in ("spikes", "v_last", "u", "v", "v_sum"):
            a, b = getattr(part, what), getattr(right[name], what)
            assert (a is None) == (b is None), what
            if a is not None:
                np.testing.assert_array_equal(a, b)
                assert a.dtype == b.dtype


def many(random_net: RandomNet, seed: int, kind: str) -> tuple[FixedNet, NDArray[np.int64]]:
    """Seven samples, no two alike where that can be."""
    net, x = random_net(seed, kind=kind)
    rng = np.random.default_rng(seed)
    picked = rng.integers(0, x.shape[1], 7)
    mixed = rng.permuted(x[:, picked], axis=0)
    return net, mixed


@pytest.mark.lava
@pytest.mark.parametrize(
    ("kind", "record", "jobs"), [("conv", True, 2), ("dense", False, 3), ("delay", True, 2)]
)
def test_any_number_of_jobs_gives_the_same_trace(
    kind: str, record: bool, jobs: int, random_net: RandomNet, small: None
) -> None:
    """Also where every sample has an execution of its own."""
    net, x = many(random_net, 5 if kind == "delay" else 4, kind)
    one = lava_shares.run(net, x, jobs=1, record=record)
    spikes = np.concatenate([part.spikes for part in one.populations.values()], axis=2)
    assert len({spikes[:, i].tobytes() for i in range(7)}) > 2  # whose is whose can be told
    found = lava_shares.run(net, x, jobs=jobs, record=record)
    assert_same(found, one)
    for name, part in reference.run(net, x).populations.items():
        np.testing.assert_array_equal(found[name].spikes, part.spikes)


@pytest.mark.lava
def test_a_share_whose_process_is_killed_is_played_again(
    random_net: RandomNet, played_by: Callable[[str], None], tmp_path: Path
) -> None:
    net, x = many(random_net, 4, "conv")
    played_by("die_once")
    assert_same(lava_shares.run(net, x, jobs=2), lava_inprocess.run(net, x))
    assert (tmp_path / "0-3").exists()
    assert (tmp_path / "3-7").exists()


@pytest.mark.lava
@pytest.mark.parametrize(
    ("player", "why"),
    [("die", f"ended with -{int(signal.SIGKILL)}"), ("fail", "OSError: the disk")],
)
def test_a_share_that_cannot_be_played_is_named(
    player: str, why: str, random_net: RandomNet, played_by: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    net, x = many(random_net, 4, "conv")
    played_by(player)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    message = rf"^Lava failed on samples (0-3|3-7): {why}.*; give fewer samples, or fewer jobs$"
    with pytest.raises(LavaError, match=message):
        lava_shares.run(net, x, jobs=2)
    assert not list(tmp_path.glob("spikeport-lava-*"))


def test_shares_are_even_and_not_too_small() -> None:
    least = lava_shares.LEAST_STEPS
    shares: Any = lava_shares.shares
    assert shares(2 * least - 1, samples=100, jobs=8) == [range(100)]
    assert shares(2 * least, samples=101, jobs=8) == [range(50), range(50, 101)]
    assert shares(100 * least, samples=3, jobs=8) == [range(1), range(1, 2), range(2, 3)]
    assert shares(100 * least, samples=9, jobs=2) == [range(4), range(4, 9)]
    assert shares(0, samples=0, jobs=2) == [range(0)]


def test_at_least_one_job(random_net: RandomNet) -> None:
    net, x = random_net(0)
    with pytest.raises(ValueError, match=r"^lava-inprocess: jobs is 0; it must be at least 1$"):
        lava_shares.run(net, x, jobs=0)


@pytest.mark.lava
def test_backends_spread_in_process_lava_over_the_jobs_they_are_given(
    random_net: RandomNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = many(random_net, 4, "conv")
    counts: list[int] = []
    right = lava_shares.shares

    def counted(steps: int, *, samples: int, jobs: int) -> list[range]:
        counts.append(jobs)
        return right(steps, samples=samples, jobs=jobs)

    monkeypatch.setattr(lava_shares, "shares", counted)
    for jobs in (3, None):
        backends.run(net, x, backend="lava-inprocess", jobs=jobs)
    assert counts == [3, os.cpu_count()]
