"""A folder that runs a network on Lava, beside a board or not, and checks every spike.

It needs nothing of spikeport: `lava_folder` holds what runs there, as real modules of ours.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spikeport.hw import deploy_network, netx_file, rules, rules_place
from spikeport.hw.deploy_readme import readme
from spikeport.hw.lava_board import board_status
from spikeport.hw.lava_limits import LavaLimitError, refuse
from spikeport.hw.place import Placement, place
from spikeport.hw.target import BOARDS, TARGETS, Board, Target
from spikeport.sim.bundle import Vectors, check_fit, replacing, sha256
from spikeport.sim.describe import describe
from spikeport.sim.files import refuse_taken
from spikeport.sim.net import FixedNet

__all__ = ["BOARDS", "Board", "board_status", "board_target", "write_folder"]

ROOT = Path(__file__).resolve().parents[1]
CODE = {
    name: ROOT / folder / name
    for folder, names in {
        "hw/lava_folder": (
            "run.py", "compare.py", "options.py", "play.py", "graph.py", "board.py",
            "processes/__init__.py", "processes/adapters.py", "processes/recorder.py",
        ),
        "hw": (
            "lava_axes.py", "lava_board.py", "lava_file.py", "lava_guard.py", "lava_watch.py",
            "lava_group.py", "lava_import.py",
        ),
        "sim": ("files.py", "interrupt.py"),
    }.items()
    for name in names
}  # fmt: skip
# In the folder the modules lie side by side.
SHORTER = (
    ("from spikeport.hw.lava_folder import ", "import "),
    ("spikeport.hw.lava_folder.", ""),
    ("spikeport.hw.", ""),
    ("spikeport.sim.", ""),
)


def write_folder(
    net: FixedNet,
    folder: Path | str,
    *,
    board: str,
    vectors: Vectors,
    reports: Callable[[], Mapping[str, str]] = dict,
    words: str = "",
) -> list[Path]:
    """Write `net` for a board of BOARDS into the new `folder`; all files appear at once.

    vectors: inputs, and what every population must send for them. reports: further texts by file
    name, asked for once the network is known to fit. words: the board's options of run.py, for the
    README. Returns all files. Raises ValueError when the board is not known, a rule of it is
    broken, Lava's stock processes cannot run the network, the vectors are not of it, or `folder`
    exists already or has nowhere to be.
    """
    folder = Path(folder)
    target = board_target(board)
    refuse_taken(folder, what="folder")
    placement = placed(net, target)
    refuse(net)
    check_fit(net, vectors)
    net.input.check(vectors.inputs)
    with replacing(folder) as fresh:
        _save_vectors(fresh / "vectors.npz", net, vectors)
        no_netx = _write_network(fresh, net)
        _write_texts(fresh, {
            **code(),
            "network.txt": describe(net) + "\n",
            **_placement(placement),
            **(more := reports()),
            "README.txt": readme(
                net, placement.target, no_netx=no_netx, cost="cost.txt" in more, words=words
            ),
        })  # fmt: skip
    return _files(folder)


def board_target(board: str) -> Target:
    """What a network is placed on for a board of BOARDS; ValueError for any other."""
    if board not in BOARDS:
        raise ValueError(f"board is {board!r}; allowed are {', '.join(sorted(BOARDS))}")
    return TARGETS[board]


def placed(net: FixedNet, target: Target) -> Placement:
    """`net` on the cores of `target`; ValueError with all rules that it breaks there."""
    rules.enforce(net, target.whole)
    placement = place(net, target)
    rules.refuse(rules_place.cores(len(placement.cores), target), target.whole)
    return placement


def _save_vectors(path: Path, net: FixedNet, vectors: Vectors) -> None:
    wanted = {f"spikes.{name}": spikes for name, spikes in vectors.spikes.items()}
    if net.readout.of_potentials:
        wanted["logits"] = vectors.logits
    _save(path, {"x": vectors.inputs, **wanted})


def _write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write `texts` by file name, and the sums of all files."""
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    sums = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in _files(folder)]
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
    loading, reason = None, None
    try:
        loading = netx_file.write(net, folder / "network.net")
    except LavaLimitError as problem:
        reason = str(problem)
    header = deploy_network.header(net, netx=loading)
    if loading is None:
        header["connections"], arrays = deploy_network.connections(net)
        _save(folder / "network.npz", arrays)
    (folder / "network.json").write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
    return reason


def _placement(placement: Placement) -> dict[str, str]:
    """The placement by file name."""
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
