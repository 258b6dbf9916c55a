"""Deployment folders at work: their own script, where there is no spikeport."""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeport import deploying
from spikeport.hw import deploy
from spikeport.hw.lava_group import PROC, SEGMENTS
from spikeport.sim import reference
from spikeport.sim.bundle import Vectors
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense
from spikeport.sim.trace import Trace

pytestmark = [pytest.mark.lava, pytest.mark.usefixtures("nothing_left")]

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


def late_chain() -> FixedNet:
    """Two layers with delays, which NetX adds to the steps that its layers cost."""
    w = 2 * np.random.default_rng(0).integers(-20, 60, (6, 6))
    return FixedNet(
        input=Input(shape=(6,)),
        populations=tuple(Population(name=name, shape=(6,), **LAYER) for name in ("a", "out")),
        projections=(
            Projection(source="input", target="a", synapse=Dense(w=w), delay=3),
            Projection(source="a", target="out", synapse=Dense(w=w), delay=2),
        ),
        readout=Readout(population="out", kind="sum_v"),
        steps=8,
    )


def written(net: FixedNet, folder: Path) -> Trace:
    """The folder of `net` with two samples, and what they must give."""
    x = np.random.default_rng(1).integers(0, 2, (8, 2, *net.input.shape))
    trace = reference.run(net, x)
    assert all(part.spikes.any() for part in trace.populations.values())
    spikes = {name: part.spikes for name, part in trace.populations.items()}
    vectors = Vectors(inputs=x, spikes=spikes, logits=trace.logits(net.readout))
    deploy.write_folder(net, folder, board="oheo-gulch", vectors=vectors)
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


def test_what_stays_is_seen(orphans: Callable[[], set[str]]) -> None:
    before = orphans()
    with (SEGMENTS / f"psm_deployed-{os.getpid()}_x").open("w+b") as file:
        file.write(b"segment")
        file.flush()
        assert file.name in orphans() - before
        with mmap.mmap(file.fileno(), 0):
            assert file.name not in orphans()
    Path(file.name).unlink()
    with tempfile.TemporaryDirectory(prefix="psm_of-nobody", suffix="_") as folder:
        assert folder in orphans() - before
        words = [sys.executable, "-c", "input()", Path(folder).name[len("psm_") : -1]]
        with subprocess.Popen(words, stdin=subprocess.PIPE) as starting:
            assert folder not in orphans()
            starting.kill()


@pytest.mark.parametrize(
    ("make", "source"),
    [(maps, "the NetX file"), (late_chain, "the NetX file"), (late, "arrays")],
)
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
    assert f"\n{deploy.board_status()}\n" in done.stdout
    assert ("out, last_v: 0 of 10 potentials differ" in done.stdout) == (make is maps)
    assert ("out, sum_v: 0 of 12 potentials differ" in done.stdout) == (make is late_chain)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["passed"], result["ran_on"]) == (True, "Lava's CPU simulator")
    assert (result["missing"], result["not_compared"]) == (deploy.board_status(), [])
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
    (folder / "result.json").write_text('{"passed": true}')
    done = without(folder, "--timeout", "0.5")
    assert (done.returncode, done.stdout) == (2, "")
    assert not list(folder.glob("*result.json*"))
    assert done.stderr == (
        "run.py: Lava did not finish within 0.5 s; give it a longer --timeout or fewer --samples\n"
    )
    changed(folder, "network.npz", **{"connections.0.weights": np.zeros((6, 7))})
    done = without(folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("run.py: Lava failed: ")
    assert done.stderr.count("\n") == 1


NO_BOARD = "for boards only, and no board can be used: Lava-Loihi, the extension that Intel gives"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--samples 3", "--samples is 3; allowed are 1..2\n"),
        ("--samples 0", "--samples is 0; allowed are 1..2\n"),
        ("--timeout -1", "timeout is -1; allowed are 0 to 1e+06 seconds\n"),
        ("--timeout nan", "timeout is nan; allowed are 0 to 1e+06 seconds\n"),
        ("--timeout inf", "timeout is inf; allowed are 0 to 1e+06 seconds\n"),
        ("--populations out,in", "--populations names 'in'; allowed are out\n"),
        ("--host ethernet", "--host ethernet needs --address, the host of the board\n"),
        ("--host ssh", "--host is 'ssh'; allowed are slurm, ethernet\n"),
        (
            "--host slurm --generation N9",
            "--generation is 'N9'; allowed are N2A2, N3B2, N3B3, N3C1, N3D1\n",
        ),
        (
            "--generation N3B3",
            "--generation needs --host; without it the environment's LOIHI_GEN counts\n",
        ),
        (
            "--host ethernet --node ncl-01",
            "--node is for --host slurm; give that too, or leave it out\n",
        ),
        (
            "--address 10.0.0.1",
            "--address is for --host ethernet; give that too, or leave it out\n",
        ),
        (
            "--host slurm --partition=",
            "--partition is empty; give it a value or leave it out\n",
        ),
        (
            "--host slurm --partition gulch",
            "--host needs --generation, the chip's: N2A2, N3B2, N3B3, N3C1, N3D1; Lava would take"
            " N3B3 without a word\n",
        ),
        (
            "--host slurm --partition gulch --generation N3C1",
            f"--host, --partition, --generation: {NO_BOARD}",
        ),
        ("--profile", f"--profile: {NO_BOARD}"),
        (
            "--simulator --profile",
            "and --simulator was given; leave them out to use the simulator\n",
        ),
        ("--out .", "--out {out} is no file; name another\n"),
        (
            "--out {out}/none/x",
            "({out}/none/x: the folder {out}/none does not exist; create it first); name another"
            " file\n",
        ),
        ("--out {out}/run.py/x", "(Not a directory); name another file\n"),
        ("--out {out}/run.py", "--out {out}/run.py is a file of the deployment; name another\n"),
        ("--out {out}/SHA256SUMS", "SHA256SUMS is a file of the deployment; name another\n"),
        ("--out {out}/" + "x" * 250, "(File name too long); name another file\n"),
    ],
)
def test_wrong_words_are_one_sentence_before_lava_starts(
    words: str,
    says: str,
    late_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from spikeport.hw.lava_folder import compare

    monkeypatch.setattr(compare, "HERE", late_folder)
    monkeypatch.chdir(late_folder)
    monkeypatch.setattr(compare, "guarded", None)
    before = set(late_folder.rglob("*"))
    assert compare.main(words.format(out=late_folder).split()) == 2
    told = capsys.readouterr().err
    assert told.startswith("run.py: ")
    assert says.format(out=late_folder) in told
    assert told.count("\n") == 1
    assert set(late_folder.rglob("*")) == before


@pytest.fixture(scope="module")
def late_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `late`, as it was written."""
    folder = tmp_path_factory.mktemp("late") / "out"
    written(late(), folder)
    return folder


def test_generations_are_those_of_lava() -> None:
    from lava.utils.loihi import ChipGeneration

    from spikeport.hw.lava_folder import options

    assert tuple(generation.value for generation in ChipGeneration) == options.GENERATIONS


def test_words_of_a_shell() -> None:
    from spikeport.hw.lava_folder import options

    said = {
        "host": "slurm",
        "generation": "N3B3",
        "node": "my node",
        "partition": None,
        "profile": True,
        "samples": 3,
    }
    given = options.for_boards(said)
    assert options.words(given) == "--host=slurm '--node=my node' --generation=N3B3 --profile"
    parsed = options.arguments(out=Path("x")).parse_args(shlex.split(options.words(given)))
    assert options.for_boards(vars(parsed)) == given
    assert options.words(options.for_boards({"profile": False})) == ""


def test_without_what_it_needs_it_says_so(tmp_path: Path) -> None:
    written(late(), folder := tmp_path / "out")
    (folder / "result.json").write_text('{"passed": true}')
    bare = [sys.executable, "-S", "-B", str(folder / "run.py")]  # no package is found
    done = subprocess.run(bare, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "run.py: No module named 'numpy'; it needs Python 3.10 with `pip install lava-nc==0.10.0"
        " lava-dl==0.6.0 setuptools`\n"
    )
    assert not (folder / "result.json").exists()


def test_without_a_part_of_lava_it_says_what_it_needs(
    tmp_path: Path, without: Callable[..., Any]
) -> None:
    part = tmp_path / "board" / "lava" / "lib" / "dl"
    part.mkdir(parents=True)
    (part / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'lava.lib.dl'\")"
    )
    written(maps(), folder := tmp_path / "out")
    done = without(folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "run.py: Lava failed: No module named 'lava.lib.dl'; it needs Python 3.10 with `pip install"
        " lava-nc==0.10.0 lava-dl==0.6.0 setuptools`\n"
    )


def test_a_disk_that_fills_up_at_the_end_is_a_sentence(
    late_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from spikeport.hw.lava_folder import compare

    def full(out: Path, text: str) -> None:
        if text:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out))
        out.touch()

    monkeypatch.setattr(compare, "HERE", late_folder)
    monkeypatch.setattr(compare, "write_text", full)
    assert compare.main(["--simulator", "--samples", "1"]) == 2
    told = (
        f"run.py: --out {late_folder / 'result.json'} cannot be written (No space left on device)"
    )
    assert capsys.readouterr().err == f"{told}; name another file\n"
    assert not (late_folder / "result.json").exists()


def damaged_sums(folder: Path) -> None:
    (folder / "SHA256SUMS").write_text("no sums\n")


def bytes_as_sums(folder: Path) -> None:
    (folder / "SHA256SUMS").write_bytes(b"\xff\xfe")


def one_word_more(folder: Path, name: str = "network.txt") -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    with (folder / name).open("a") as file:
        file.write("!")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (one_word_more, "network.txt was changed since the folder was written; deploy again"),
        (
            lambda folder: (folder / "README.txt").unlink(),
            "README.txt is missing from the folder; deploy again",
        ),
        (damaged_sums, "SHA256SUMS is damaged; deploy again"),
        (bytes_as_sums, "SHA256SUMS is damaged; deploy again"),
        (
            lambda folder: (folder / "SHA256SUMS").unlink(),
            "SHA256SUMS is missing from the folder; deploy again",
        ),
        *(
            (
                partial(one_word_more, name=name),  # such code could not even be imported
                f"{name} was changed since the folder was written; deploy again",
            )
            for name in ("compare.py", "options.py", "lava_guard.py", "processes/recorder.py")
        ),
        *(
            (
                partial(one_word_more, name=name),
                f"{name} is not in SHA256SUMS, but would be executed; move it elsewhere",
            )
            for name in (
                "numpy.py",
                "numpy.pyc",
                "numpy.so",
                "numpy/__init__.py",
                "numpy/__init__.pyc",
                "processes/mine.py",
            )
        ),
    ],
)
def test_a_changed_folder_is_refused_and_an_older_result_goes(
    damage: Callable[[Path], object], says: str, late_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(late_folder, folder := tmp_path / "out")
    (folder / "result.json").write_text('{"passed": true}')
    damage(folder)
    done = subprocess.run([sys.executable, folder / "run.py"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"run.py: {says}\n")
    assert not (folder / "result.json").exists()


def plays(folder: Path) -> bool:
    """Whether the child of the folder's script has started."""
    word = os.fsencode(folder / "play.py")
    for entry in PROC.glob("[0-9]*/cmdline"):
        try:
            if word in entry.read_bytes().split(b"\0"):
                return True
        except OSError:
            continue  # it ended while we looked
    return False


def test_a_stopped_run_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    written(late(), folder := tmp_path / "out")
    (folder / "result.json").write_text('{"passed": true}')
    before = {path.name for path in folder.iterdir()} - {"result.json"}
    command = [sys.executable, str(folder / "run.py")]
    handler = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=handler,
                           env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
    deadline = time.monotonic() + 60
    while not plays(folder):
        assert time.monotonic() < deadline, "Lava did not start in a minute"
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=60)[1]
    sentence = "run.py: stopped by the user; what was already written is whole\n"
    assert (run.returncode, said) == (130, sentence)
    assert {path.name for path in folder.iterdir()} == before


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
    runs = 0

    def __init__(self, num_steps):
        Loihi2Power.runs += 1
        self.total_power = np.linspace(1, 3, num_steps) * (1 + Loihi2Power.runs) / 2
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
            if "SLURM" in os.environ:
                print(*(os.environ[name] for name in ("PARTITION", "LOIHI_GEN")), file=file)


class PyToN3ConvAdapter(PyToNxAdapter):
    pass


class NxToPyAdapter(PyToNxAdapter):
    pass


@implements(proc=PyToNxAdapter, protocol=LoihiProtocol)
@requires(CPU)
class PyToNxModel(PyAdapter):
    pass


@implements(proc=PyToN3ConvAdapter, protocol=LoihiProtocol)
@requires(CPU)
class PyToN3ConvModel(PyAdapter):
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
            Projection(source="hidden", target="out", synapse=dense, delay=2),
        ),
    )
    net = replace(net, readout=Readout(population="out", kind="sum_v"))
    written(net, folder := tmp_path / "out")
    done = without(folder, "--profile")
    assert (done.returncode, done.stderr) == (0, "")
    assert "out: 0 of 96 spikes differ" in done.stdout
    assert "hidden: not compared" in done.stdout
    assert "out, sum_v: not compared" in done.stdout
    assert "total_power_w: 2.5, mean of 2 executions" in done.stdout
    result = json.loads((folder / "result.json").read_text())
    assert result["ran_on"] == "board, a path that was written without one and has never run before"
    assert result["missing"] is None
    assert result["not_compared"] == ["hidden", "out, sum_v"]
    assert result["profile"] == {  # of each execution: a sample each, because of the delay
        "total_power_w": [2, 3], "vdd_power_w": [1, 1.5], "vddm_power_w": [0.25, 0.25],
        "vddio_power_w": [0.125, 0.125], "static_total_power_w": [0.5, 0.5],
        "avg_time_per_step_us": [4.5, 4.5],
    }  # fmt: skip
    used = (tmp_path / "adapters").read_text()
    each = ["NxToPyAdapter 6 0", "PyToNxAdapter 5 0"]
    assert sorted(used.splitlines()) == sorted(2 * each)
    done = without(folder, "--simulator")
    assert done.returncode == 0
    assert "on Lava's CPU simulator" in done.stdout
    assert (tmp_path / "adapters").read_text() == used


@pytest.mark.usefixtures("board")
def test_maps_take_the_way_to_a_board_that_convolutions_need(
    tmp_path: Path, without: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTERS", str(tmp_path / "adapters"))
    written(maps(), folder := tmp_path / "out")
    late = np.zeros((8, 2, 5), np.uint8)
    late[0, 1, 0] = 1  # as of a readout that does not fire in the first sample
    changed(folder, "vectors.npz", **{"spikes.out": late})
    done = without(folder, "--profile", "--samples", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "maps: 0 of 512 spikes differ" in done.stdout
    assert "out: not compared" in done.stdout
    done = without(folder, "--populations", "maps,out", "--profile")
    assert (done.returncode, done.stderr) == (1, "")
    assert set((tmp_path / "adapters").read_text().splitlines()) == {
        "PyToN3ConvAdapter 4 4 1 8", "NxToPyAdapter 4 4 4 0", "NxToPyAdapter 5 0",
    }  # fmt: skip


@pytest.mark.usefixtures("board")
def test_spikeport_hands_the_boards_options_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sinfo = tmp_path / "sinfo"
    lines = "PARTITION AVAIL TIMELIMIT NODES STATE NODELIST\ngulch up infinite 1 idle ncl-01"
    sinfo.write_text(f"#!/bin/sh\necho '{lines}'\n")
    sinfo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "board"))
    monkeypatch.setenv("ADAPTERS", str(tmp_path / "adapters"))
    written(late(), folder := tmp_path / "out")
    given = {"host": "slurm", "partition": "gulch", "generation": "N3C1", "profile": True}
    state, ran = deploying.run_folder(folder, samples=1, timeout_s=60, given=given)
    assert state == "compared"
    assert ran["ran_on"].startswith("board, ")
    assert ran["profile"]["avg_time_per_step_us"] == [4.5]
    assert set((tmp_path / "adapters").read_text().splitlines()) == {
        "PyToNxAdapter 5 0", "NxToPyAdapter 6 0", "gulch N3C1",
    }  # fmt: skip
    given["partition"] = "tide"
    state, problem = deploying.run_folder(folder, samples=1, timeout_s=60, given=given)
    assert state == "failed"
    assert "partition tide is not found or is down" in problem


def test_hosts_are_named_as_lava_expects_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lava's own code, but for the extension and the programs that it asks."""
    from lava.utils import loihi, slurm

    from spikeport.hw.lava_folder import board

    head = "PARTITION AVAIL TIMELIMIT NODES STATE NODELIST"
    sinfo = [head, "gulch* up infinite 1 idle ncl-01", ""]  # a star: the default partition
    monkeypatch.setattr(loihi, "is_installed", lambda: True)
    monkeypatch.setattr(slurm, "try_run_command", lambda words: list(sinfo))
    monkeypatch.setattr(os, "environ", {})
    host = {"partition": "gulch", "node": None, "address": "10.0.0.1", "binary": "nx/server"}
    board.use_host({**host, "host": None, "generation": "N3C1"})
    assert os.environ == {}
    board.use_host({**host, "host": "slurm", "generation": "N3C1"})
    assert os.environ == {"SLURM": "1", "LOIHI_GEN": "N3C1", "PARTITION": "gulch"}
    nodes = ["NODELIST NODES PARTITION STATE", "ncl-01 1 gulch* idle", ""]
    monkeypatch.setattr(slurm, "try_run_command", lambda w: list(nodes if "-N" in w else sinfo))
    board.use_host({**host, "host": "slurm", "node": "ncl-01", "generation": "N3C1"})
    assert os.environ["BOARD"] == "ncl-01"
    board.use_host({**host, "host": "ethernet", "generation": "N3B3"})
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
            board.use_host({**host, "host": kind, "generation": "N3B3"})
