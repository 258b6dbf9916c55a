"""A folder with everything that a machine with a board needs to run a network and check it."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from spikeport.hw import netx_file, rules
from spikeport.hw.early import HELD
from spikeport.hw.lava_board import board_status
from spikeport.hw.lava_record import alone
from spikeport.hw.target import BOARDS, Board
from spikeport.sim.describe import describe
from spikeport.sim.files import naming
from spikeport.sim.net import FixedNet
from spikeport.sim.trace import Trace

__all__ = ["BOARDS", "Board", "board_status", "write_folder"]


README = """\
Network {digest} for {board} ({chips} x {chip})

{netx}
vectors.npz      input `x` [T, B, ...] and, for every population P, the expected `spikes.P`
                 [T, B, n]; a board must give them back without one difference
network.txt      the network in words
SHA256SUMS       check the folder with `sha256sum -c SHA256SUMS`

{timing}"""
IN_A_ROW = """\
To run: play the samples of `x` one after the other, T steps each, from a source that is connected
directly to the network; output step t of sample n leaves population P, at depth d (its number in
network.txt), at chip step n * T + t + d + 1, counted from 1.
"""
ONE_BY_ONE = """\
To run: play each sample of `x`, T steps, from a source that is connected directly to the network,
and start the network anew for every sample: its delays would carry spikes of one sample into the
next. Let all potentials start at {held}, so that no bias fires before a population's window; its
reset at chip step d + 1, d being its depth (its number in network.txt), puts them to 0. Output step
t leaves it at chip step t + d + 1, counted from 1.
"""
NETX = """\
network.net      the network for lava-dl 0.6: netx.hdf5.Network("network.net", **json), with the
                 keyword arguments in network.json
"""
NO_NETX = """\
There is no NetX file, because {reason}.
"""


def write_folder(
    net: FixedNet, folder: Path | str, *, board: str, vectors: tuple[Any, Trace]
) -> list[Path]:
    """Write `net` for a board of BOARDS into the new `folder`; all files appear at once.

    vectors: input [T, B, *shape] and the trace that it must give. Raises ValueError when the board
    is not known, a rule of its chip is broken or `folder` exists already.
    """
    folder = Path(folder)
    if board not in BOARDS:
        raise ValueError(f"board is {board!r}; allowed are {', '.join(sorted(BOARDS))}")
    if folder.exists():
        raise ValueError(f"{folder} exists already; name a new folder or remove it")
    if not folder.parent.is_dir():
        raise ValueError(f"{folder}: the folder {folder.parent} does not exist; create it first")
    rules.enforce(net, BOARDS[board].chip)
    with naming(folder):
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            _fill(temporary, net, board=board, vectors=vectors)
            temporary.chmod(0o755)  # mkdtemp makes folders for the owner only
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return sorted(folder.iterdir())


def _fill(folder: Path, net: FixedNet, *, board: str, vectors: tuple[Any, Trace]) -> None:
    x, trace = vectors
    spikes = {f"spikes.{name}": part.spikes for name, part in trace.populations.items()}
    content = io.BytesIO()  # on a full disk an open archive would complain once more when it goes
    np.savez_compressed(content, x=net.input.check(x), **spikes)
    (folder / "vectors.npz").write_bytes(content.getbuffer())
    (folder / "network.txt").write_text(describe(net) + "\n", encoding="utf-8")
    text = README.format(
        digest=net.digest()[:12],
        board=board,
        chips=BOARDS[board].chips,
        chip=BOARDS[board].chip.name,
        netx=_netx(folder, net).rstrip("\n"),
        timing=ONE_BY_ONE.format(held=HELD) if alone(net) else IN_A_ROW,
    )
    (folder / "README.txt").write_text(text, encoding="utf-8")
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
    ]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


def _netx(folder: Path, net: FixedNet) -> str:
    """Write the NetX file if the network can be one; what the README says about it."""
    try:
        loading = netx_file.write(net, folder / "network.net")
    except ValueError as reason:
        return NO_NETX.format(reason=reason)
    text = json.dumps(loading, indent=2) + "\n"
    (folder / "network.json").write_text(text, encoding="utf-8")
    return NETX
