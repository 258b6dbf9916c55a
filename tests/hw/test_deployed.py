"""Deployment folders at work: their own script, where there is no spikeport."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeport.hw import deploy
from spikeport.hw.lava_group import SEGMENTS
from spikeport.sim import reference
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense
from spikeport.sim.trace import Trace

pytestmark = pytest.mark.lava

LAYER: dict[str, Any] = {"v_th": np.array(40), "du": np.array(400), "dv": np.array(100)}


def maps() -> FixedNet:
    """A convolution and a dense layer that is read out by its potentials; NetX can hold it."""
    rng = np.random.default_rng(0)
    w = rng.integers(-20, 60, (4, 1, 3, 3))
    dense = Dense(w=2 * rng.integers(-60, 60, (5, 64)))
    return FixedNet(
        input=Input(shape=(1, 4, 4), kind="graded", payload_bits=3),
        populations=(
            Population(name="maps", shape=(4, 4, 4), **LAYER),
            Population(name="out", shape=(5,), **LAYER),
        ),
        projections=(
            Projection(
                source="input",
                target="maps",
                synapse=Conv2d(w=w, geometry=ConvGeometry(padding=(1, 1))),
            ),
            Projection(source="maps", target="out", synapse=dense),
        ),
        readout=Readout(population="out", kind="last_v"),
        steps=8,
    )


def late() -> FixedNet:
    """A delay and biases that NetX cannot hold; every sample starts anew."""
    w = 2 * np.random.default_rng(0).integers(-50, 90, (6, 5))
    return FixedNet(
        input=Input(shape=(5,)),
        populations=(Population(name="out", shape=(6,), bias=np.arange(6), **LAYER),),
        projections=(
            Projection(source="input", target="out", synapse=Dense(w=w)),
            Projection(source="input", target="out", synapse=Dense(w=w[:, ::-1]), delay=2),
        ),
        readout=Readout(population="out"),
        steps=8,
    )


def written(net: FixedNet, folder: Path) -> Trace:
    """The folder of `net` with two samples, and what they must give."""
    x = np.random.default_rng(1).integers(0, 2, (8, 2, *net.input.shape))
    trace = reference.run(net, x)
    assert all(part.spikes.any() for part in trace.populations.values())
    deploy.write_folder(net, folder, board="oheo-gulch", vectors=(x, trace))
    return trace


@pytest.fixture
def without(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`without(folder, *words)`: run the folder's script where importing spikeport fails."""
    (tmp_path / "blocked" / "spikeport").mkdir(parents=True)
    poison = "raise ImportError('a deployment folder must not need spikeport')"
    (tmp_path / "blocked" / "spikeport" / "__init__.py").write_text(poison)

    def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"PYTHONPATH": f"{tmp_path}/blocked:{tmp_path}/board"}
        command = [sys.executable, str(folder / "run.py"), *words]
        return subprocess.run(command, env=env, cwd="/", capture_output=True, text=True)

    return run


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No segment of shared memory of a run stays."""
    yield
    assert not list(SEGMENTS.glob("psm_deployed-*"))


@pytest.mark.parametrize(("make", "source"), [(maps, "the NetX file"), (late, "arrays")])
def test_a_folder_reproduces_the_expected_spikes_without_spikeport(
    make: Callable[[], FixedNet], source: str, tmp_path: Path, without: Callable[..., Any]
) -> None:
    trace = written(make(), tmp_path / "out")
    done = without(tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    for name, part in trace.populations.items():
        line = f"{name}: 0 of {part.spikes.size:,} spikes differ ({part.spikes.sum():,} fired)"
        assert line in done.stdout.splitlines()
    verdict = f"as expected: 2 of 2 samples on Lava's CPU simulator, built from {source}"
    assert verdict in done.stdout.splitlines()
    assert "no board: Lava-Loihi, the extension that Intel gives" in done.stdout
    assert ("out, last_v: 0 of 10 potentials differ" in done.stdout) == (make is maps)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["passed"], result["ran_on"]) == (True, "Lava's CPU simulator")
    assert result["digest"] == json.loads((tmp_path / "out" / "network.json").read_text())["digest"]


def changed(folder: Path, name: str, **arrays: Any) -> None:
    """Put `arrays` into the archive `name` of `folder`, and its new sum into SHA256SUMS."""
    path, sums = folder / name, folder / "SHA256SUMS"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with np.load(path) as old:
        np.savez(path, **{**old, **arrays})
    after = hashlib.sha256(path.read_bytes()).hexdigest()
    sums.write_text(sums.read_text().replace(before, after))


def test_one_wrong_spike_and_one_wrong_score_are_found(
    tmp_path: Path, without: Callable[..., Any]
) -> None:
    net = replace(late(), readout=Readout(population="out", kind="sum_v"))
    trace = written(net, folder := tmp_path / "out")
    spikes, logits = trace["out"].spikes.copy(), trace.logits(net.readout).copy()
    spikes[-1, 0, 3] ^= 1
    logits[0, 0] += 1
    changed(folder, "vectors.npz", **{"spikes.out": spikes, "logits": logits})
    done = without(folder, "--samples", "1", "--simulator", "--out", str(tmp_path / "found.json"))
    assert (done.returncode, done.stderr) == (1, "")
    assert "out: 1 of 48 spikes differ" in done.stdout
    assert "out, sum_v: 1 of 6 potentials differ" in done.stdout
    assert "NOT as expected: 1 of 2 samples on Lava's CPU simulator" in done.stdout
    assert "no board" not in done.stdout  # nobody asked for one
    assert not json.loads((tmp_path / "found.json").read_text())["passed"]


def test_what_lava_says_and_how_long_it_may_take(
    tmp_path: Path, without: Callable[..., Any]
) -> None:
    written(late(), folder := tmp_path / "out")
    done = without(folder, "--timeout", "0.5")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "run.py: Lava did not finish within 0.5 s; give it a longer --timeout or fewer --samples\n"
    )
    changed(folder, "network.npz", **{"connections.0.weights": np.zeros((6, 7))})
    done = without(folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("run.py: Lava failed: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--samples 3", "--samples is 3; allowed are 1..2"),
        ("--samples 0", "--samples is 0; allowed are 1..2"),
        ("--populations out,in", "there is no population 'in'; there are out"),
        ("--host ethernet", "--host ethernet needs --address, the host of the board"),
    ],
)
def test_wrong_words_are_one_sentence(
    words: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from spikeport.hw.lava_folder import run

    written(late(), tmp_path / "out")
    monkeypatch.setattr(run, "HERE", tmp_path / "out")
    assert run.main(words.split()) == 2
    assert capsys.readouterr().err == f"run.py: {says}\n"


def test_a_changed_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from spikeport.hw.lava_folder import run

    written(late(), tmp_path / "out")
    with (tmp_path / "out" / "network.txt").open("a") as file:
        file.write("!")
    monkeypatch.setattr(run, "HERE", tmp_path / "out")
    assert run.main([]) == 2
    message = "run.py: network.txt was changed since the folder was written; deploy again\n"
    assert capsys.readouterr().err == message


# A stand-in for Lava-Loihi, by the names that Intel's examples use. Its adapters and its neurons
# run on the CPU: it shows that the script takes the way to a board, not what a board does.
PROFILER = """
import functools
import numpy as np
from lava.magma.core import run_configs

run_configs.CLoihiProcessModel = type("CLoihiProcessModel", (), {})
run_configs.Loihi2HwCfg.__init__ = functools.partialmethod(
    run_configs.Loihi2HwCfg.__init__, select_tag="fixed_pt"
)


class Loihi2Power:
    def __init__(self, num_steps):
        self.total_power = np.linspace(1, 3, num_steps)
        self.vdd_power, self.vddm_power, self.vddio_power = self.total_power / 2, 0.25, 0.125
        self.static_total_power = 0.5


class Loihi2ExecutionTime:
    avg_time_per_step = 4.5
"""
ADAPTERS = """
import os

from lava.magma.core.decorator import implements, requires
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from processes.adapters import PyAdapter


class PyToNxAdapter(AbstractProcess):
    def __init__(self, shape, num_message_bits):
        super().__init__()
        self.inp, self.out = InPort(shape=shape), OutPort(shape=shape)
        with open(os.environ["ADAPTERS"], "a") as file:
            print(type(self).__name__, *shape, num_message_bits, file=file)


class NxToPyAdapter(PyToNxAdapter):
    pass


@implements(proc=PyToNxAdapter, protocol=LoihiProtocol)
@requires(CPU)
class PyToNxModel(PyAdapter):
    pass


@implements(proc=NxToPyAdapter, protocol=LoihiProtocol)
@requires(CPU)
class NxToPyModel(PyAdapter):
    pass
"""


@pytest.fixture
def board(tmp_path: Path) -> None:
    """The stand-in where `without` finds it."""
    for name, text in (("utils/loihi2_profiler", PROFILER), ("proc/embedded_io/spike", ADAPTERS)):
        file = tmp_path / "board" / "lava" / f"{name}.py"
        file.parent.mkdir(parents=True)
        file.write_text(text)


@pytest.mark.usefixtures("board")
def test_beside_a_board_the_script_takes_it(
    tmp_path: Path, without: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTERS", str(tmp_path / "adapters"))
    net = late()
    hidden = replace(net.populations[0], name="hidden")
    dense = Dense(w=2 * np.random.default_rng(2).integers(-20, 60, (6, 6)))
    net = replace(
        net,
        populations=(hidden, *net.populations),
        projections=(
            replace(net.projections[0], target="hidden"),
            Projection(source="hidden", target="out", synapse=dense),
        ),
    )
    written(net, folder := tmp_path / "out")
    done = without(folder, "--profile")
    assert (done.returncode, done.stderr) == (0, "")
    assert "out: 0 of 96 spikes differ" in done.stdout
    assert "hidden: not compared" in done.stdout
    result = json.loads((folder / "result.json").read_text())
    assert result["ran_on"] == "board, a path that was written without one and has never run before"
    assert result["missing"] is None
    assert result["profile"] == {
        "total_power_w": 2, "vdd_power_w": 1, "vddm_power_w": 0.25, "vddio_power_w": 0.125,
        "static_total_power_w": 0.5, "avg_time_per_step_us": 4.5,
    }  # fmt: skip
    used = (tmp_path / "adapters").read_text()
    assert sorted(used.splitlines()) == ["NxToPyAdapter 6 0", "PyToNxAdapter 5 0"]
    done = without(folder, "--simulator", "--profile")
    assert done.returncode == 0
    assert "on Lava's CPU simulator" in done.stdout
    assert (tmp_path / "adapters").read_text() == used


def test_hosts_are_named_as_lava_expects_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lava's own code, but for the extension and the programs that it asks."""
    from lava.utils import loihi, slurm

    from spikeport.hw.lava_folder import board

    sinfo = ["PARTITION AVAIL TIMELIMIT NODES STATE NODELIST", "gulch up infinite 1 idle ncl-01"]
    monkeypatch.setattr(loihi, "is_installed", lambda: True)
    monkeypatch.setattr(slurm, "try_run_command", lambda words: list(sinfo))
    monkeypatch.setattr(os, "environ", {})
    host = {"partition": "gulch", "node": None, "address": "10.0.0.1", "binary": "nx/server"}
    board.use_host({**host, "kind": None, "generation": "N3C1"})
    assert os.environ == {}
    board.use_host({**host, "kind": "slurm", "generation": "N3C1"})
    assert os.environ == {"SLURM": "1", "LOIHI_GEN": "N3C1", "PARTITION": "gulch"}
    board.use_host({**host, "kind": "ethernet", "generation": "N3B3"})
    assert {key: os.environ[key] for key in ("NOSLURM", "NXSDKHOST", "HOST_BINARY")} == {
        "NOSLURM": "1", "NXSDKHOST": "10.0.0.1", "HOST_BINARY": "nx/server",
    }  # fmt: skip
    assert os.environ["LOIHI_GEN"] == "N3B3"

    def missing(words: list[str]) -> None:
        raise FileNotFoundError(2, "No such file", words[0])

    monkeypatch.setattr(slurm, "try_run_command", missing)
    for kind, program in (("slurm", "sinfo"), ("ethernet", "ping")):
        message = f"^there is no program '{program}' on this machine, .* the {kind} host; run this"
        with pytest.raises(RuntimeError, match=message):
            board.use_host({**host, "kind": kind, "generation": "N3B3"})
