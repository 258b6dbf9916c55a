"""What the conformance tests share: the emulators, each only where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
MODULES = {
    "nengo-loihi": ("nengo_loihi", "nengo_run.py"),
    "brian2-loihi": ("brian2_loihi", "brian_run.py"),
}


@pytest.fixture(scope="session")
def nets(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    """`common_nets.py`."""
    return load_file(HERE / "common_nets.py")


@pytest.fixture(scope="session")
def emulator(load_file: Callable[[Path], ModuleType]) -> Callable[[str], Any]:
    """`emulator(name)`: the module that runs nets on it; skips where it is not installed."""
    loaded: dict[str, ModuleType] = {}

    def get(name: str) -> ModuleType:
        package, file = MODULES[name]
        pytest.importorskip(
            package, reason=f"{name} is not installed; it belongs to the extra 'conformance'"
        )
        if name not in loaded:
            loaded[name] = load_file(HERE / file)
        return loaded[name]

    return get


@pytest.fixture(scope="session")
def nengo(emulator: Callable[[str], Any]) -> Any:
    """`nengo_run.py`."""
    return emulator("nengo-loihi")


@pytest.fixture(scope="session")
def brian(emulator: Callable[[str], Any]) -> Any:
    """`brian_run.py`."""
    return emulator("brian2-loihi")
