"""The strict modes of `conftest.py` are on: without them many tests could not fail."""

from __future__ import annotations

import socket
import warnings

import numpy as np
import pytest
from hypothesis import settings


def test_floating_point_errors_are_raised() -> None:
    assert set(np.geterr().values()) == {"raise"}
    with pytest.raises(FloatingPointError):
        np.float64(1) / np.float64(0)


def test_warnings_that_our_code_causes_are_errors() -> None:
    with pytest.raises(UserWarning, match=r"^of a test$"):
        warnings.warn("of a test", stacklevel=1)
    for module in ("spikeport", "spikeport.sim.net"):
        with pytest.raises(DeprecationWarning, match=r"^of ours$"):
            warnings.warn_explicit("of ours", DeprecationWarning, "net.py", 1, module=module)


def test_warnings_of_other_packages_are_theirs(recwarn: pytest.WarningsRecorder) -> None:
    warnings.warn_explicit("of theirs", UserWarning, "x.py", 1, module="spikeports")
    assert [str(w.message) for w in recwarn] == ["of theirs"]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_network_is_out_of_reach(family: socket.AddressFamily) -> None:
    with pytest.raises(PermissionError, match=r"^tests must not use the network$"):
        socket.socket(family)
    with pytest.raises(PermissionError, match=r"^tests must not use the network$"):
        socket.create_connection(("127.0.0.1", 9), timeout=1)


def test_processes_can_talk() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"x")
        assert right.recv(1) == b"x"


def test_torch_repeats_itself_on_one_thread() -> None:
    torch = pytest.importorskip("torch")
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1
    assert torch.is_warn_always_enabled()


def test_examples_of_properties_have_no_deadline() -> None:
    assert settings().deadline is None
    assert settings().max_examples in (50, 200, 5000)
