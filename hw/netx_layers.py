"""Opening a NetX file: from bytes on disk to checked layers of known kinds, or one sentence.

What lava-dl's loader would cut, round or leave out without a word is refused: fractions, NaN,
refractory times, graded outputs, exponents of weights, delays of convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spikeport.sim import checks
from spikeport.sim.arith import DECAY_MAX, DELAY_MAX, DU_OFFSET, V_TH_MAX

# What each kind of layer must hold, and what it may hold besides.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "input": ("shape",),
    "flatten": (),
    "dense": ("shape", "weight"),
    "dense_rec": ("shape", "weight", "weight_rec"),
    "conv": ("shape", "weight", "stride", "padding", "dilation", "groups"),
}
OPTIONAL = ("weight", "bias", "delay")
LARGEST = 1 << 31  # bytes of an entry; a damaged file may claim any number
NEURONS = ("CUBA", "LOIHI")
SILENT = (1 << 18) - 1  # the threshold that lava-dl writes for its Affine, which never fires
LIMITS = {
    "vThMant": (0, V_TH_MAX),
    "iDecay": (DU_OFFSET, DECAY_MAX + DU_OFFSET),
    "vDecay": (0, DECAY_MAX),
}
# Entries of a neuron that lava-dl writes and does not read, with the values that mean nothing.
UNREAD = {
    "refDelay": (0, 1),
    "gradedSpike": (0,),
    "messageBits": (0,),
    "wgtExp": (0,),
    "weight_exp": (0,),
}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer. where: "layer 3". name: as written, or "layer3". values: integer arrays by the
    names of the file. neuron: v_th, du and dv, or None where the file has none."""

    where: str
    name: str
    kind: str
    values: Mapping[str, NDArray[np.int64]]
    neuron: Mapping[str, int] | None


def layers(path: Path) -> tuple[list[Layer], dict[str, Any]]:
    """The layers of the NetX file at `path` and the file's attributes.

    Raises FileNotFoundError or ValueError with one sentence.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; give the path of a NetX file")
    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get("layer"), h5py.Group) or not len(file["layer"]):
                raise ValueError(f"{path}: holds no layers (the group 'layer'); is it a NetX file?")
            groups = file["layer"]
            lacking = [i for i in range(len(groups)) if not _is_group(groups, str(i))]
            if lacking:
                raise ValueError(
                    f"{path}: holds {len(groups)} layers, but none is called '{lacking[0]}'; number"
                    " them from 0"
                )
            try:
                found = [_layer(i, groups[str(i)]) for i in range(len(groups))]
            except ValueError as problem:
                raise ValueError(f"{path}: {problem}") from None
            return found, dict(file.attrs)
    except (OSError, RuntimeError, KeyError):
        raise ValueError(f"{path}: is damaged or no HDF5 file; write it again") from None


def _is_group(parent: Any, name: str) -> bool:
    return isinstance(parent.get(name), h5py.Group)


def _layer(i: int, group: Any) -> Layer:
    where = f"layer {i}"
    kind = _text(group, "type", where=where)
    if kind not in FIELDS:
        raise ValueError(
            f"{where} has type {kind!r}; supported are {', '.join(FIELDS)}, so rebuild the layer"
            " from these (a pool as a convolution)"
        )
    missing = [name for name in FIELDS[kind] if name not in group]
    if missing:
        raise ValueError(f"{where} ({kind}) lacks {', '.join(missing)}; write the file again")
    names = [name for name in (*FIELDS[kind], *OPTIONAL) if name in group]
    values = {name: _integers(group[name], where=f"{where}: {name}") for name in names}
    _refuse_delay(kind, values, where=where)
    neuron = None
    if _is_group(group, "neuron"):
        neuron = _neuron(group["neuron"], where=f"{where}: neuron")
    elif kind not in ("input", "flatten"):
        raise ValueError(
            f"{where} ({kind}) has no neurons; give it the group 'neuron', with vThMant {V_TH_MAX},"
            " iDecay 4096 and vDecay 0 where it only integrates"
        )
    name = group.attrs.get("name", f"layer{i}")
    return Layer(where=where, name=str(name), kind=kind, values=values, neuron=neuron)


def _text(group: Any, name: str, *, where: str) -> str:
    """The text at `name`, which is one of bytes or an array of one."""
    item = group.get(name)
    value = np.asarray(_value(item, where=where)) if isinstance(item, h5py.Dataset) else np.empty(0)
    if value.size != 1:
        raise ValueError(f"{where} lacks its {name}; write the file again")
    text = value.reshape(-1)[0]
    return text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)


def _integers(item: Any, *, where: str) -> NDArray[np.int64]:
    if not isinstance(item, h5py.Dataset):
        raise ValueError(
            f"{where} is a group of {', '.join(item)}; supported are plain numbers, no complex ones"
        )
    limit, value = 1 << 31, _value(item, where=where)
    return checks.frozen_ints(value, where=where, low=-limit, high=limit - 1, dtype=np.int64)


def _value(item: Any, *, where: str) -> Any:
    if item.nbytes > LARGEST:
        raise ValueError(
            f"{where} claims to hold {item.nbytes} bytes, {LARGEST} are the most; write the file"
            " again"
        )
    return item[()]


def _refuse_delay(kind: str, values: Mapping[str, NDArray[np.int64]], *, where: str) -> None:
    delay = values.get("delay", np.zeros(1, np.int64))
    if delay.min() < 0 or delay.max() > DELAY_MAX:
        raise ValueError(
            f"{where}: delays span {delay.min()}..{delay.max()}; allowed are 0..{DELAY_MAX}, which"
            " lava-dl forces upon them, so change them before export"
        )
    if kind == "dense_rec" and "delay" in values:
        raise ValueError(
            f"{where} (dense_rec) has delays, with which lava-dl drops the exponent of the weights;"
            " take them out"
        )
    if kind != "dense" and delay.any():
        raise ValueError(
            f"{where} ({kind}) has delays, which lava-dl does not read; move them into a dense"
            " layer, or take them out"
        )


def _neuron(group: Any, *, where: str) -> dict[str, int]:
    kind = _text(group, "type", where=where)
    if kind not in NEURONS:
        raise ValueError(
            f"{where} has type {kind!r}; supported are {', '.join(NEURONS)}, so train with CUBA"
        )
    missing = [name for name in LIMITS if name not in group]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}; write the file again")
    found = {name: _number(group[name], where=f"{where}: {name}") for name in LIMITS}
    if found["vThMant"] == SILENT:
        found["vThMant"] = V_TH_MAX
    for name, value in found.items():
        low, high = LIMITS[name]
        checks.whole(value, where=f"{where}: {name}", low=low, high=high)
    for name, harmless in UNREAD.items():
        if name in group and _number(group[name], where=f"{where}: {name}") not in harmless:
            raise ValueError(
                f"{where}: {name} is {group[name][()]}, which lava-dl does not read; allowed are"
                f" {', '.join(map(str, harmless))}, so train without it"
            )
    return {"v_th": found["vThMant"], "du": found["iDecay"] - DU_OFFSET, "dv": found["vDecay"]}


def _number(item: Any, *, where: str) -> int:
    value = _integers(item, where=where)
    if value.size != 1:
        raise ValueError(f"{where} has shape {value.shape}; one value a layer is allowed")
    return int(value.reshape(()))
