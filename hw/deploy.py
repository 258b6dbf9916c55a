"""A folder that runs a network on Lava, beside a board or not, and checks every spike.

It needs nothing of spikeport: `lava_folder` holds what runs there, as real modules of ours.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spikeport.hw import deploy_network, netx_file, rules, rules_place
from spikeport.hw.deploy_readme import readme
from spikeport.hw.lava_board import board_status
from spikeport.hw.lava_limits import refuse
from spikeport.hw.place import Placement, place
from spikeport.hw.target import BOARDS, TARGETS, Board
from spikeport.sim.describe import describe
from spikeport.sim.files import naming
from spikeport.sim.net import FixedNet
from spikeport.sim.trace import Trace

__all__ = ["BOARDS", "Board", "board_status", "write_folder"]

HERE = Path(__file__).resolve().parent
CODE = {
    name: HERE / source
    for source in (
        "lava_folder/run.py",
        "lava_folder/play.py",
        "lava_folder/graph.py",
        "lava_folder/board.py",
        "lava_folder/processes/__init__.py",
        "lava_folder/processes/adapters.py",
        "lava_folder/processes/recorder.py",
        "lava_guard.py",
        "lava_watch.py",
        "lava_group.py",
        "lava_import.py",
    )
    for name in [source.removeprefix("lava_folder/")]
}
# In the folder the modules lie side by side.
SHORTER = (
    ("from spikeport.hw.lava_folder import ", "import "),
    ("spikeport.hw.lava_folder.", ""),
    ("spikeport.hw.", ""),
)


def write_folder(
    net: FixedNet, folder: Path | str, *, board: str, vectors: tuple[Any, Trace]
) -> list[Path]:
    """Write `net` for a board of BOARDS into the new `folder`; all files appear at once.

    vectors: input [T, B, *shape] and the trace that it must give. Returns all files. Raises
    ValueError when the board is not known, a rule of it is broken, Lava's stock processes cannot
    run the network or `folder` exists already.
    """
    folder = Path(folder)
    if board not in BOARDS:
        raise ValueError(f"board is {board!r}; allowed are {', '.join(sorted(BOARDS))}")
    if folder.exists():
        raise ValueError(f"{folder} exists already; name a new folder or remove it")
    if not folder.parent.is_dir():
        raise ValueError(f"{folder}: the folder {folder.parent} does not exist; create it first")
    placement = placed(net, board=board)
    refuse(net)
    with naming(folder):
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            _fill(temporary, net, placement=placement, vectors=vectors)
            temporary.chmod(0o755)  # mkdtemp makes folders for the owner only
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return _files(folder)


def placed(net: FixedNet, *, board: str) -> Placement:
    """`net` on the cores of `board`; ValueError with all rules that it breaks there."""
    target = TARGETS[board]
    rules.enforce(net, target.whole)
    placement = place(net, target)
    if issues := list(rules_place.cores(len(placement.cores), target)):
        raise ValueError(f"the network does not fit {board}: " + "; also ".join(map(str, issues)))
    return placement


def _fill(folder: Path, net: FixedNet, *, placement: Placement, vectors: tuple[Any, Trace]) -> None:
    x, trace = vectors
    spikes = {f"spikes.{name}": part.spikes for name, part in trace.populations.items()}
    if net.readout.of_potentials:
        spikes["logits"] = trace.logits(net.readout)
    _save(folder / "vectors.npz", {"x": net.input.check(x), **spikes})
    no_netx = _write_network(folder, net)
    for name, text in {
        **code(),
        "network.txt": describe(net) + "\n",
        "README.txt": readme(net, placement.target, no_netx=no_netx),
        **_reports(placement),
    }.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in _files(folder)
    ]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


def code() -> dict[str, str]:
    """What runs in the folder: the text of every file by its name there."""
    found = {}
    for name, source in CODE.items():
        text = source.read_text(encoding="utf-8")
        for ours, short in SHORTER:
            text = text.replace(ours, short)
        found[name] = text
    return found


def _write_network(folder: Path, net: FixedNet) -> str | None:
    """Write the NetX file, or arrays and the reason why there is none, which is returned."""
    try:
        header = deploy_network.header(net, netx=netx_file.write(net, folder / "network.net"))
        reason = None
    except ValueError as problem:
        connections, arrays = deploy_network.connections(net)
        header = deploy_network.header(net, netx=None) | {"connections": connections}
        _save(folder / "network.npz", arrays)
        reason = str(problem)
    (folder / "network.json").write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
    return reason


def _reports(placement: Placement) -> dict[str, str]:
    """Reports by file name. A report on time and energy joins here."""
    cores = [
        {part.population: [list(ends) for ends in part.box] for part in core.slices}
        for core in placement.cores
    ]
    found = {
        "target": placement.target.name,
        "of": placement.target.cores,
        "busiest": placement.busiest,
        "cores": cores,
    }
    return {
        "placement.txt": placement.as_text() + "\n",
        "placement.json": json.dumps(found, indent=1) + "\n",
    }


def _save(path: Path, arrays: Mapping[str, Any]) -> None:
    content = io.BytesIO()  # on a full disk an open archive would complain once more when it goes
    np.savez_compressed(content, **arrays)
    path.write_bytes(content.getbuffer())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
