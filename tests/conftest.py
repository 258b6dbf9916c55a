"""Strict modes and shared fixtures of the whole suite."""

from __future__ import annotations

import importlib
import importlib.util
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

# Before numpy loads its BLAS: the suite shares small machines, and timings need one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

HERE = Path(__file__).parent

settings.register_profile("fast", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=5000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


def pytest_configure(config: pytest.Config) -> None:
    """Switch the strict modes on, which `test_strict.py` checks."""
    # A warning that our own code causes is an error; those of other packages are theirs.
    config.addinivalue_line("filterwarnings", r"error:::(spikeport|tests)(\.|$)")
    np.seterr(all="raise")
    block_network()
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        torch.set_warn_always(True)  # else only the first place is warned of


def block_network() -> None:
    """Refuse every socket but local ones, through which processes of one machine talk."""
    opened = socket.socket.__init__

    def opened_if_local(self: socket.socket, *args: Any, **kwargs: Any) -> None:
        opened(self, *args, **kwargs)
        if self.family != socket.AF_UNIX:
            self.close()
            raise PermissionError("tests must not use the network")

    socket.socket.__init__ = opened_if_local  # type: ignore[method-assign]


def load(path: Path) -> ModuleType:
    """Import the file at `path` without making a package of the folder that holds it."""
    spec = importlib.util.spec_from_file_location(f"_spikeport_test_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name while it is being executed.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def load_file() -> Callable[[Path], ModuleType]:
    """`load_file(path)`: the module in a Python file beside the tests."""
    return load


UNCOMPILED = ("return cast(Function, njit(cache=True, **_OPTIONS)(function))", "return function")


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """`planted(names, *changes)`: the last of the modules `names` ("sim.twin"), which are in the
    order in which they import each other. All are loaded anew, with changes (text, wrong text) that
    fit one place each. Kernels run uncompiled: the same arithmetic, and no compilation a mutant."""

    def changed(names: tuple[str, ...], *changes: tuple[str, str]) -> ModuleType:
        full = [f"spikeport.{name}" for name in ("sim.kernel", *names)]
        files = {name: str(importlib.import_module(name).__file__) for name in full}
        texts = {name: Path(file).read_text("utf-8") for name, file in files.items()}
        for old, new in (UNCOMPILED, *changes):
            (home,) = [name for name, text in texts.items() if old in text]
            assert texts[home].count(old) == 1
            texts[home] = texts[home].replace(old, new)
        for name, text in texts.items():
            module = ModuleType(name)
            module.__file__ = files[name]
            monkeypatch.setitem(sys.modules, name, module)
            exec(compile(text, f"<mutant of {name}>", "exec"), module.__dict__)
        return module

    return changed


@pytest.fixture(scope="session")
def random_net() -> Callable[..., object]:
    """`random_net(seed, kind=None, lava=True) -> (FixedNet, x)`, see `random_nets.py`."""
    return load(HERE / "random_nets.py").random_net  # type: ignore[no-any-return]


def orphaned() -> set[str]:
    """Paths of shared-memory segments and of socket folders of Lava runs that no living process
    uses; others may be using theirs."""
    places = {"/dev/shm", "/tmp", tempfile.gettempdir()}
    found = {str(path) for place in places for path in Path(place).glob("psm_*")}
    tables = Path("/proc/net/unix"), *Path("/proc").glob("[0-9]*/maps")
    for table in (*tables, *Path("/proc").glob("[0-9]*/cmdline")):
        try:
            text = table.read_text(errors="replace")
        except OSError:
            continue  # it ended while we looked
        # A command line names the job's folder from its start on, when no socket is there yet.
        found = {path for path in found if path not in text and job_of(path) not in text}
    return found


def job_of(path: str) -> str:
    """The name of the folder of the job that a segment or socket folder is of."""
    return Path(path).name.removeprefix("psm_").rpartition("_")[0] or path


@pytest.fixture(scope="session")
def orphans() -> Callable[[], set[str]]:
    """`orphans()`: see `orphaned`."""
    return orphaned


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """The test leaves nothing of Lava behind that nobody uses. Other processes of the machine have
    such things too, for a moment: between making a segment and mapping it, say."""
    before = orphaned()
    yield
    left, deadline = orphaned() - before, time.monotonic() + 30
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left &= orphaned()
    assert left == set()


@pytest.fixture(scope="session")
def fixed_nets() -> Callable[[], Any]:
    """`fixed_nets()`: a hypothesis strategy of (FixedNet, x) that shrinks, see `strategies.py`."""
    return load(HERE / "strategies.py").fixed_nets  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def cli(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    """The commands, driven in this process; see `tiny_run.py`."""
    return load_file(HERE / "tiny_run.py")


@pytest.fixture(scope="module")
def finished(cli: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.toml, its finished run and its bundle."""
    folder = tmp_path_factory.mktemp("finished")
    cli.make(folder)
    return folder
