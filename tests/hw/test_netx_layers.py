"""NetX files that are damaged, or hold what lava-dl would cut, round or leave out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from spikeport.hw import netx_read


def write(path: Path) -> None:
    """A network with a layer of every kind: 1 input, 2 conv, 3 flatten, 4 dense, 5 dense_rec."""
    with h5py.File(path, "w") as file:
        layers = [file.create_group(f"layer/{i}") for i in range(5)]
        for layer, kind in zip(
            layers, ("input", "conv", "flatten", "dense", "dense_rec"), strict=True
        ):
            layer["type"] = np.bytes_(kind)
        for i in (1, 3, 4):
            neuron = {"type": np.bytes_("CUBA"), "vThMant": 30, "iDecay": 1000, "vDecay": 200}
            for name, value in neuron.items():
                layers[i][f"neuron/{name}"] = value
        layers[0]["shape"] = [1, 3, 4]
        layers[1]["shape"] = [2, 2, 4]
        layers[1]["weight"] = np.arange(4).reshape(2, 1, 2, 1)
        for name, number in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1)):
            layers[1][name] = number
        layers[3]["shape"], layers[3]["weight"] = [3], np.arange(48).reshape(3, 16) - 20
        layers[4]["shape"], layers[4]["weight"] = [2], np.arange(6).reshape(2, 3) - 2
        layers[4]["weight_rec"] = np.arange(4).reshape(2, 2) - 2


def changed(path: Path, values: dict[str, Any]) -> None:
    """Replace entries of the file, or delete them (None)."""
    with h5py.File(path, "r+") as file:
        for name, value in values.items():
            if name in file:
                del file[name]
            if value is not None:
                file[name] = value


def refusal(path: Path, **settings: Any) -> str:
    with pytest.raises(ValueError, match=re.escape(str(path))) as found:
        netx_read.read(path, **{"steps": 5, **settings})
    return str(found.value).removeprefix(f"{path}: ")


def test_the_file_is_accepted_as_it_is(tmp_path: Path) -> None:
    write(tmp_path / "a.net")
    net = netx_read.read(tmp_path / "a.net", steps=5)
    assert [p.name for p in net.populations] == ["layer1", "layer3", "layer4"]
    assert len(net.projections) == 4


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a type": (
        {"layer/2/type": b"pool"},
        "layer 2 has type 'pool'; supported are input, flatten, dense, dense_rec, conv, so rebuild"
        " the layer from these (a pool as a convolution)",
    ),
    "no type": ({"layer/2/type": None}, "layer 2 lacks its type; write the file again"),
    "no weight": (
        {"layer/3/weight": None}, "layer 3 (dense) lacks weight; write the file again",
    ),
    "no geometry": (
        {"layer/1/stride": None, "layer/1/groups": None},
        "layer 1 (conv) lacks stride, groups; write the file again",
    ),
    "no neurons": (
        {"layer/3/neuron": None},
        "layer 3 (dense) has no neurons; give it the group 'neuron', with vThMant 131071, iDecay"
        " 4096 and vDecay 0 where it only integrates",
    ),
    "neurons": (
        {"layer/3/neuron/type": b"SDNN"},
        "layer 3: neuron has type 'SDNN'; supported are CUBA, LOIHI, so train with CUBA",
    ),
    "no decay": (
        {"layer/3/neuron/vDecay": None}, "layer 3: neuron lacks vDecay; write the file again",
    ),
    "decays": (
        {"layer/3/neuron/vDecay": [1, 2]},
        "layer 3: neuron: vDecay has shape (2,); one value a layer is allowed",
    ),
    "threshold": (
        {"layer/3/neuron/vThMant": 131072},
        "layer 3: neuron: vThMant is 131072; allowed are 0..131071",
    ),
    "current decay": (
        {"layer/3/neuron/iDecay": 0}, "layer 3: neuron: iDecay is 0; allowed are 1..4096",
    ),
    "voltage decay": (
        {"layer/3/neuron/vDecay": 4096}, "layer 3: neuron: vDecay is 4096; allowed are 0..4095",
    ),
    "refractory": (
        {"layer/3/neuron/refDelay": 4},
        "layer 3: neuron: refDelay is 4, which lava-dl does not read; allowed are 0, 1, so train"
        " without it",
    ),
    "graded output": (
        {"layer/3/neuron/gradedSpike": True},
        "layer 3: neuron: gradedSpike is True, which lava-dl does not read; allowed are 0, so"
        " train without it",
    ),
    "NaN": (
        {"layer/3/weight": np.full((3, 16), np.nan)},
        "layer 3: weight must hold integers, but some entries are fractions or NaN",
    ),
    "fractions": (
        {"layer/4/bias": [0.5, 1.0]},
        "layer 4: bias must hold integers, but some entries are fractions or NaN",
    ),
    "text": (
        {"layer/3/weight": b"none"}, "layer 3: weight has type |S4; it must hold integers",
    ),
    "huge": (
        {"layer/3/weight": np.full((3, 16), 2.0**40)},
        "layer 3: weight is 1099511627776; allowed are -2147483648..2147483647",
    ),
    "complex": (
        {"layer/3/weight": None, "layer/3/weight/real": [[1]], "layer/3/weight/imag": [[1]]},
        "layer 3: weight is a group of imag, real; supported are plain numbers, no complex ones",
    ),
    "zeros": (
        {"layer/3/weight": np.zeros((3, 16), int)},
        "layer 3: all weights are 0, which NetX cannot load; drop the layer",
    ),
    "weight shape": (
        {"layer/3/weight": np.ones((4, 16), int)},
        "layer 3: weight has shape (4, 16); needed is [3, inputs]",
    ),
    "inputs": (
        {"layer/3/weight": np.ones((3, 5), int)},
        "layer 3: weight takes 5 inputs, but (2, 2, 4) come from the layer before",
    ),
    "recurrent shape": (
        {"layer/4/weight_rec": np.ones((2, 3), int)},
        "layer 4: weight_rec has shape (2, 3); needed is [2, 2]",
    ),
    "kernel": (
        {"layer/1/weight": np.ones((2, 2), int)},
        "layer 1: weight has shape (2, 2); needed is [out, in, kH, kW]",
    ),
    "kernel range": (
        {"layer/1/weight": np.full((2, 1, 2, 1), 256)},
        "layer 1: conv weight is 256; allowed are -256..255",
    ),
    "stride": (
        {"layer/1/stride": [1, 1, 1]},
        "layer 1: stride has shape (3,); allowed are one number and two",
    ),
    "groups": (
        {"layer/1/groups": [1, 1]}, "layer 1: groups has shape (2,); one number is allowed",
    ),
    "conv shape": (
        {"layer/1/shape": [2, 3, 4]},
        "layer 1: shape is (2, 3, 4), but the convolution of (1, 3, 4) gives (2, 2, 4); write the"
        " file again",
    ),
    "conv bias": (
        {"layer/1/bias": np.ones(3)},
        "layer 1: bias has shape (3,), which fits no neurons of shape (2, 2, 4); give one a neuron"
        " or one a map",
    ),
    "dense bias": (
        {"layer/3/bias": np.ones(2)},
        "layer 3: bias has shape (2,), which fits no neurons of shape (3,); give one a neuron or"
        " one a map",
    ),
    "delay shape": (
        {"layer/3/delay": np.ones((2, 2))},
        "layer 3: delay has shape (2, 2); allowed are one number, (3,), (16,) and (3, 16)",
    ),
    "late": (
        {"layer/3/delay": 63},
        "layer 3: delays span 63..63; allowed are 0..62, which lava-dl forces upon them, so change"
        " them before export",
    ),
    "early": (
        {"layer/3/delay": [-1, 0, 1]},
        "layer 3: delays span -1..1; allowed are 0..62, which lava-dl forces upon them, so change"
        " them before export",
    ),
    "late loop": (
        {"layer/4/delay": 0},
        "layer 4 (dense_rec) has delays, with which lava-dl drops the exponent of the weights;"
        " take them out",
    ),
    "late convolution": (
        {"layer/1/delay": [0, 2]},
        "layer 1 (conv) has delays, which lava-dl does not read; move them into a dense layer, or"
        " take them out",
    ),
    "second input": (
        {"layer/2/type": b"input", "layer/2/shape": [2, 2, 4]},
        "layer 2 is an input layer; it must be the first",
    ),
    "not flattened": (
        {"layer/2": None, "layer/2/type": b"dense", "layer/2/shape": [3],
         "layer/2/weight": np.arange(48).reshape(3, 16), "layer/2/neuron/type": b"CUBA",
         "layer/2/neuron/vThMant": 1, "layer/2/neuron/iDecay": 1, "layer/2/neuron/vDecay": 1},
        "layer 2: maps (2, 2, 4) come from the layer before; put a layer of type flatten between",
    ),
    "no maps": (
        {"layer/0/shape": [12]},
        "layer 1: a convolution needs maps (C, H, W) before it, from an input layer or another"
        " convolution",
    ),
    "input shape": (
        {"layer/0/shape": [3, 4]},
        "input has shape (3, 4); allowed are (n,) and (C, H, W), all positive",
    ),
    "numbering": (
        {"layer/4": None, "layer/5/type": b"flatten"},
        "holds 5 layers, but none is called '4'; number them from 0",
    ),
    "geometry": (
        {"layer/1/padding": [0, 128], "layer/1/shape": [2, 2, 260]},
        "projection 'input' -> 'layer1': kernel, stride, padding, dilation or groups reach 128, but"
        " Lava keeps them in 8 bits, at most 127; split the layer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_change_or_cannot_be_is_refused(what: str, tmp_path: Path) -> None:
    values, message = REFUSED[what]
    write(tmp_path / "a.net")
    if what == "geometry":  # the dense layers behind it must fit
        values = values | {"layer/3/weight": np.ones((3, 1040), int)}
    changed(tmp_path / "a.net", values)
    assert refusal(tmp_path / "a.net") == message


def test_what_is_flat_is_not_flattened_again(tmp_path: Path) -> None:
    write(tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net", "r+") as file:
        file.move("layer/4", "layer/5")
        file["layer/4/type"] = b"flatten"
    assert refusal(tmp_path / "a.net") == "layer 4 flattens what is flat already; drop it"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda data: b"no HDF5", "is damaged or no HDF5 file; write it again"),
        (lambda data: data[: len(data) // 2], "is damaged or no HDF5 file; write it again"),
    ],
)
def test_other_files_are_refused(
    content: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.net"
    write(path)
    path.write_bytes(content(path.read_bytes()))
    assert refusal(path) == message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"a\.net: there is no such file; give the path of a NetX file$"
    ):
        netx_read.read(tmp_path / "a.net")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.net", "w") as file:
        file["weights"] = [1]
    assert refusal(tmp_path / "a.net") == (
        "holds no layers (the group 'layer'); is it a NetX file?"
    )


def test_a_file_without_neurons_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.net", "w") as file:
        file["layer/0/type"], file["layer/0/shape"] = b"input", [3]
    assert refusal(tmp_path / "a.net") == "holds no layer with neurons; write the file again"


def test_steps_must_be_known(tmp_path: Path) -> None:
    write(tmp_path / "a.net")
    assert refusal(tmp_path / "a.net", steps=None) == (
        "does not say how many steps a sample has; give steps"
    )


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_damaged_file_is_read_or_refused_with_one_sentence(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    write(path)
    data = bytearray(path.read_bytes())
    at = len(data) * cut // 40
    data[at : at + 16] = b"\xff" * 16
    path.write_bytes(bytes(data))
    said = ""
    try:
        netx_read.read(path, steps=5)
    except ValueError as problem:
        said = str(problem)
    assert not said or (said.startswith(f"{path}: ") and "\n" not in said)


def test_an_entry_of_absurd_size_is_not_loaded(tmp_path: Path) -> None:
    write(tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net", "r+") as file:
        del file["layer/3/weight"]
        file["layer/3"].create_dataset("weight", (3, 1 << 30), "int64", chunks=(3, 1 << 10))
    assert refusal(tmp_path / "a.net").endswith(
        f" claims to hold {3 << 33} bytes, {1 << 31} are the most; write the file again"
    )
