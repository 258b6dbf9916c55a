"""Reading a run that was recorded elsewhere: on a board, by Lava, by anything that writes numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.files import UNREADABLE_ZIP
from spikeport.sim.net import FixedNet, Population
from spikeport.sim.trace import PopulationTrace, Trace

STATES = ("u", "v")
V_UNKNOWN = 0  # v_last where no potential was recorded; nothing compares it


def read(path: Path | str, net: FixedNet) -> Trace:
    """The record in `path` as a trace of `net`.

    A .npz file holds one array a population, called as the population is (or NAME.spikes), and
    where they are known NAME.u and NAME.v in chip units, after each step. Each is [T, B, n] or, of
    one sample, [T, n]; neurons may keep the population's shape instead of n. A .npy file holds the
    spikes of a network with one population. Spikes are 0 and 1 of any type. Raises ValueError with
    the file, the array and what is wrong with it, FileNotFoundError where there is no file.
    """
    path = Path(path)
    arrays = _load(path, net)
    names = [p.name for p in net.populations]
    known = {f"{n}{end}" for n in names for end in ("", ".spikes", *(f".{s}" for s in STATES))}
    strange = sorted(set(arrays) - known)
    if strange:
        raise ValueError(
            f"{path}: holds arrays {strange} of no population; there are {names}, each as NAME,"
            " NAME.u or NAME.v"
        )
    parts = {p.name: _part(path, p, arrays) for p in net.populations}
    sizes = {name: part.spikes.shape[:2] for name, part in parts.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{path}: steps and samples differ between populations: {sizes}")
    return Trace(populations=parts)


def _load(path: Path, net: FixedNet) -> dict[str, NDArray[Any]]:
    if path.suffix not in (".npz", ".npy"):
        raise ValueError(f"{path}: is a {path.suffix!r} file; recorded spikes are .npz or .npy")
    try:
        with open(path, "rb") as file:  # numpy leaves open what it cannot read
            content = np.load(file, allow_pickle=False)
            if not isinstance(content, np.ndarray):
                return {name: content[name] for name in content.files}
    except UNREADABLE_ZIP as problem:
        if isinstance(problem, FileNotFoundError):
            raise
        raise ValueError(f"{path}: is no numpy file ({problem}); write it with numpy") from problem
    if len(net.populations) > 1:
        raise ValueError(
            f"{path}: holds one array, but the network has {len(net.populations)} populations;"
            " write a .npz with one array for each"
        )
    return {net.populations[0].name: content}


def _part(path: Path, p: Population, arrays: dict[str, NDArray[Any]]) -> PopulationTrace:
    spikes = arrays.get(p.name, arrays.get(f"{p.name}.spikes"))
    if spikes is None:
        raise ValueError(
            f"{path}: holds no spikes of population {p.name!r}; it holds {sorted(arrays)}"
        )
    flat = _flat(path, p.name, spikes, p)
    if not np.isin(flat, (0, 1)).all():
        raise ValueError(f"{path}: spikes of population {p.name!r} must be 0 or 1 in every step")
    states: dict[str, NDArray[Any] | None] = dict.fromkeys(STATES)
    for name in STATES:
        values = arrays.get(f"{p.name}.{name}")
        if values is None:
            continue
        states[name] = state = _flat(path, f"{p.name}.{name}", values, p)
        if state.shape != flat.shape:
            raise ValueError(
                f"{path}: {p.name}.{name} has shape {values.shape}, the spikes {spikes.shape}"
            )
    v = states["v"]
    return PopulationTrace(
        spikes=flat.astype(np.uint8), u=states["u"], v=v,
        v_last=np.full(flat.shape[1:], V_UNKNOWN) if v is None else v[-1],
    )  # fmt: skip


def _flat(path: Path, name: str, x: NDArray[Any], p: Population) -> NDArray[Any]:
    """`x` as [T, B, n]."""
    if x.dtype.kind not in "biuf" or not np.isfinite(x).all():
        raise ValueError(f"{path}: {name} has type {x.dtype}; finite numbers are needed")
    for shape in {p.shape, (p.size,)}:
        own = x.ndim - len(shape)
        if own in (1, 2) and x.shape[own:] == shape and 0 not in x.shape:
            return x.reshape(len(x), -1 if own == 2 else 1, p.size)
    raise ValueError(
        f"{path}: {name} has shape {x.shape}; needed is [T, B, {p.size}] or [T, {p.size}], none"
        " empty"
    )
