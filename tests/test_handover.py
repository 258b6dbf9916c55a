"""What the check says of NIR files for other chips: every rule, broken once, and its source."""

from __future__ import annotations

import json
import random
import re
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from spikeport import checking, handover
from spikeport.console import _raised_by_us
from spikeport.export import nir_read
from spikeport.export.nir_file import KEY

Row = dict[str, Any]
FOREIGN = Path(__file__).parent / "export" / "foreign"


def about(**said: Any) -> dict[str, str]:
    return {KEY: json.dumps(said)}


def entry(*shape: int, kind: str = "spike") -> Any:
    return nir.Input(input_type={"input": np.array(shape)}, metadata=about(kind=kind))


def exit_(*shape: int) -> Any:
    return nir.Output(output_type={"output": np.array(shape)})


def full(value: float, *shape: int) -> Any:
    return np.full(shape, float(value))


def spiking(*shape: int, v_th: Any = 1.0, v_reset: float = 0.0, r: float = 1.0, **said: Any) -> Any:
    said = {"reset": "zero"} | said
    return nir.IF(
        r=full(r, *shape), v_threshold=v_th * full(1, *shape), v_reset=full(v_reset, *shape),
        metadata=about(**said),
    )  # fmt: skip


def current(*shape: int, keep: float = 0.875, v_leak: float = 0.0, slow: float = 1.0,
            w_in: float = 1.0, v_th: float = 1.0, **said: Any) -> Any:  # fmt: skip
    """Neurons as a file for xylo has them, with steps of 1 ms times `slow`; w_in: times what it
    takes for a spike to arrive as rockpool lets it."""
    said = {"reset": "subtract", "rule": "exact"} | said
    tau = -1e-3 / np.log(keep)
    r, kept = tau / (1e-3 * slow) - 1, keep**slow
    return nir.CubaLIF(
        tau_mem=full(tau, *shape), tau_syn=full(tau, *shape), r=full(r, *shape),
        w_in=full(w_in * kept / (r * (1 - kept) ** 2), *shape),
        v_leak=full(v_leak, *shape), v_threshold=full(v_th, *shape), metadata=about(**said),
    )  # fmt: skip


def leaky(*shape: int, **said: Any) -> Any:
    values = {"tau": full(4e-3, *shape), "r": full(4, *shape), "v_leak": full(0, *shape)}
    said = {"reset": "zero"} | said
    return nir.LIF(v_threshold=full(1, *shape), metadata=about(**said), **values)


def linear(n_out: int, n_in: int) -> Any:
    return nir.Linear(weight=np.ones((n_out, n_in)))


def affine(n_out: int, n_in: int, bias: float = 0.0) -> Any:
    return nir.Affine(weight=np.ones((n_out, n_in)), bias=full(bias, n_out))


def conv(
    c_out: int, c_in: int, k: int = 3, *, side: int = 4, stride: int = 1, w: float = 1.0,
    dilation: int = 1, groups: int = 1, padding: int = 1, bias: int = 0,
) -> Any:  # fmt: skip
    return nir.Conv2d(
        input_shape=(side, side), weight=full(w, c_out, c_in, k, k), stride=stride,
        padding=padding, dilation=dilation, groups=groups,
        bias=np.zeros(bias or c_out),
    )  # fmt: skip


def pool(kind: Any = nir.SumPool2d, *, k: Any = (2, 2), stride: int = 2, padding: int = 0) -> Any:
    return kind(kernel_size=np.array(k), stride=full(stride, 2).astype(int),
                padding=full(padding, 2).astype(int))  # fmt: skip


def flat(*shape: int) -> Any:
    return nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0, end_dim=-1)


def file(
    path: Path, *row: Any, more: tuple[tuple[int, int], ...] = (), cut: int = 0,
    ends: bool = False, **said: Any,
) -> Path:  # fmt: skip
    """A file with nodes "0", "1", ... in a chain, the first and the last called "input" and
    "output" if `ends`, without the edge to node `cut` if it is not 0, with `more` edges, and
    `said` of the whole."""
    names = [str(i) for i in range(len(row))]
    if ends:
        names[0], names[-1] = "input", "output"
    edges = [edge for edge in pairwise(names) if not cut or edge[1] != names[cut]]
    edges += [(names[a], names[b]) for a, b in more]
    graph = nir.NIRGraph(dict(zip(names, row, strict=True)), edges, type_check=False)
    if said:
        graph.metadata = about(**said)
    nir.write(path / "net.nir", graph)
    return path / "net.nir"


def mapped(*, k: int = 3, **conv_: Any) -> Row:
    node = conv(3, 2, k, **conv_)
    shape = node.output_type["output"]
    return {"row": (entry(2, 4, 4), node, spiking(*shape), exit_(*shape))}


def dense(*neurons: Any, bias: float = 0.0, weights: Any = None, sizes: Any = (4, 3)) -> Row:
    """Input of 4, and for each of `neurons` an Affine before it."""
    row: list[Any] = [entry(sizes[0])]
    for (n_in, n), node in zip(pairwise(sizes), neurons, strict=True):
        row += [weights or affine(n, n_in, bias), node]
    return {"row": (*row, exit_(sizes[-1]))}


def changed(node: Any, **values: Any) -> Any:
    for key, value in values.items():
        setattr(node, key, np.array(value))
    return node


def pooling(first: Any, *behind: Any) -> Row:
    end = exit_(*behind[-1].v_threshold.shape)
    return {"row": (entry(2, 4, 4), conv(3, 2), spiking(3, 4, 4), first, *behind, end)}


def tail(side: int = 2) -> tuple[Any, ...]:
    """What follows a pool that leaves maps of `side`."""
    return flat(3, side, side), affine(3, 3 * side**2), spiking(3)


XYLO = {"dt_s": 1e-3, "rule": "exact", "ends": True}
TWO = (4, 6, 3)


def xylo(*neurons: Any, sizes: Any = TWO, bias: float = 0.0, **said: Any) -> Row:
    neurons = neurons or tuple(current(n) for n in sizes[1:])
    return {**dense(*neurons, bias=bias, sizes=sizes), **(XYLO | said)}


OTHERS = {**dense(*(current(n) for n in TWO[1:]), sizes=TWO), "ends": True}

NINE = dense(*[spiking(2)] * 9, sizes=(2,) * 10)
CORE_FULL = {"row": (
    entry(64, 39, 39), conv(16, 64, 8, side=39, padding=0), spiking(16, 32, 32), exit_(16, 32, 32)
)}  # fmt: skip
LARGE = changed(affine(3, 4), weight=full(-127, 3, 4))

# What the reader takes, up to the last that it takes, and the rules that give advice all the same.
FITS: dict[str, tuple[str, Row, str]] = {
    "speck, dense": ("speck", dense(spiking(3)), "rounded"),
    "speck, a weight of nothing": ("speck", dense(spiking(3), weights=changed(
        affine(3, 4, 0.0), weight=[[1e-35, 0.5, 0.0, 1.0]] * 3, bias=[1e-33, 0.0, 0.5])),
        "rounded"),
    "speck, maps": ("speck", pooling(pool(), *tail()), "rounded"),
    "speck, subtracting": ("speck", dense(spiking(3, reset="subtract")), "rounded"),
    "speck, two pools": ("speck", pooling(pool(k=(1, 1), stride=1), pool(), *tail()), "rounded"),
    "speck, largest pool": ("speck", pooling(pool(k=(4, 4), stride=4), *tail(1)), "rounded"),
    "speck, largest kernel": ("speck", mapped(k=16, padding=8), "rounded"),
    "speck, longest stride": ("speck", mapped(stride=8), "rounded"),
    "speck, all features": ("speck", dense(spiking(1024), sizes=(4, 1024)), "rounded"),
    "speck, all cores": ("speck", NINE, "rounded"),
    "speck, all of a core": ("speck", CORE_FULL, "rounded"),
    "speck, least threshold": ("speck", dense(spiking(3, v_th=1e-30)), "rounded"),
    "speck, largest threshold": ("speck", dense(spiking(3, v_th=1e30)), "rounded"),
    "xylo": ("xylo", xylo(), "rounded"),
    "xylo, of others": ("xylo", OTHERS, "rounded"),
    "xylo, all channels": ("xylo", xylo(sizes=(16, 600, 400, 8)), "rounded"),
    "spinnaker2, dense": ("spinnaker2", dense(leaky(3)), "time steps"),
    "spinnaker2, linear": ("spinnaker2", dense(leaky(3), weights=linear(3, 4)), "time steps"),
    "spinnaker2, largest weight": ("spinnaker2", dense(leaky(3), weights=LARGE), "time steps"),
    "spinnaker2, a bias": ("spinnaker2", dense(leaky(3), bias=1.0) | {"dt_s": 1e-3}, "steps"),
    "spinnaker2, currents": ("spinnaker2", dense(current(3)), "time steps"),
    "spinnaker2, maps": ("spinnaker2", pooling(pool(), *tail()), "steps"),
    "spinnaker2, loop": (
        "spinnaker2", {**dense(leaky(4), sizes=(4, 4)), "more": ((2, 1),)}, "time steps"),
}  # fmt: skip

BREAKS: dict[str, tuple[str, str, Row, str]] = {
    "one for all": ("speck", "opened", {"row": (entry(4), affine(3, 4), spiking(1), exit_(3))},
                    f"network: nir {nir.__version__} stops at it (Type inference error: type"
                    " mismatch: 1.output: [[3]] -> 2.input: [[1]]), but sinabs opens it with that"),
    "a batch of one": ("speck", "opened", {"row": (
        entry(1, 2, 4, 4), conv(3, 2), spiking(3, 4, 4), exit_(3, 4, 4))},
        "but sinabs opens it with that; give every node the shapes that it asks for, without a"
        " batch and one number a neuron"),
    "graded": ("speck", "input", {"row": (
        entry(4, kind="graded"), affine(3, 4), spiking(3), exit_(3))},
        "node '0': its input is graded, but Speck takes spikes"),
    "start": ("spinnaker2", "starts", dense(leaky(3, v_init=[0.0, 0.1, 0.0])),
              "node '2': its potentials start at v_init, but NIR cannot say so and py-spinnaker2"
              " starts at 0"),
    "one start": ("xylo", "starts", xylo(current(6), current(3, v_init=0.5)),
                  "node '4': its potentials start at v_init"),
    "two resets": ("spinnaker2", "resets", dense(leaky(6), leaky(3, reset="subtract"), sizes=TWO),
                   "but py-spinnaker2 has one rule for the whole network"),
    "reset of others": ("speck", "resets", dense(nir.IF(r=full(1, 3), v_threshold=full(1, 3))),
                        "node '2': NIR does not say what a spike does, but sinabs subtracts"),
    "zero on xylo": ("xylo", "resets", xylo(current(6), current(3, reset="zero")),
                     "node '4': its reset is 'zero', but rockpool always subtracts"),
    "v_reset": ("speck", "resets", dense(spiking(3, v_reset=0.25)),
                "node '2': its v_reset is not 0, but sinabs takes it as 0"),
    "linear": ("speck", "types", dense(spiking(3), weights=linear(3, 4)),
               "node '1': it is of type Linear, but sinabs reads it as nothing and says so"),
    "average": ("speck", "types", pooling(pool(nir.AvgPool2d), *tail()),
                "node '3': it is of type AvgPool2d, but sinabs reads it as nothing"),
    "leak": ("speck", "types", dense(leaky(3)), "it is of type LIF, but neurons of Speck do not"),
    "currents on speck": ("speck", "types", dense(current(3)),
                          "but sinabs reads Input, Output, Affine, Conv2d, IF, SumPool2d, Flatten"),
    "lif on xylo": ("xylo", "types", xylo(leaky(6, reset="subtract"), current(3)),
                    "but rockpool asks it for tau_mem, which NIR calls tau, and stops"),
    "if on xylo": ("xylo", "types", xylo(spiking(6, reset="subtract"), current(3)),
                   "but rockpool reads Input, Output, Affine, Linear, CubaLIF"),
    "average on spinnaker2": ("spinnaker2", "types", pooling(pool(nir.AvgPool2d), *tail()),
                              "but py-spinnaker2 knows sums, and averages in some versions"),
    "skip": ("speck", "chain", {**dense(spiking(4), spiking(4), sizes=(4, 4, 4)),
                                     "more": ((0, 3),)},
             "node '3': 2 edges lead into it, but nirtorch runs a node behind its first source"),
    "two inputs": ("speck", "chain", {"row": (
        entry(4), affine(3, 4), spiking(3), exit_(3), entry(4)), "cut": 4, "more": ((4, 1),)},
        "network: it has 2 Input nodes, but nirtorch takes one"),
    "dead end": ("speck", "chain", {"row": (
        entry(4), affine(3, 4), spiking(3), exit_(3), affine(2, 3), spiking(2)), "cut": 4,
        "more": ((2, 4),)}, "node '5': nothing comes behind it, but nirtorch returns what it runs"),
    "skip on xylo": ("xylo", "chain", {**xylo(sizes=(4, 4, 4)), "more": ((0, 3),)},
                     "node '3': 2 edges lead into it, but nirtorch runs a node behind its first"),
    "name": ("xylo", "names", xylo(ends=False),
             "node '0': the Input is called so, but rockpool's as_graph, which Xylo is mapped from,"
             " knows 'input' only"),
    "threshold of nothing": ("xylo", "thresholds", xylo(current(6), current(3, v_th=0)),
                             "node '4': its v_threshold is 0, but rockpool divides potentials by"),
    "w_in": ("xylo", "gains", xylo(current(6), current(3, w_in=2)),
             "node '4': by r and w_in a spike arrives times 1.75, but rockpool reads no w_in and"
             " lets it arrive times 0.875"),
    "huge": ("xylo", "numbers", xylo(current(6), current(3, v_th=1e31)),
             "node '4': its v_threshold goes to 1e+31, but rockpool runs in float32, which is safe"
             " from 1e-30 to 1e+30; scale weights and thresholds together"),
    "tiny": ("speck", "numbers", dense(spiking(3, v_th=1e-31)),
             "node '2': its v_threshold goes to 1e-31, but sinabs runs in float32"),
    "one bias": ("speck", "kernels", mapped(bias=1),
                 "node '1': it has one bias, but sinabs needs one for each feature"),
    "pool of one number": ("speck", "pools", pooling(
        changed(pool(), kernel_size=[2], stride=[2]), *tail()),
        "node '3': its kernel_size is one number, but sinabs needs rows and columns"),
    "weights behind weights": ("speck", "order", {"row": (
        entry(4), affine(3, 4), affine(3, 3), spiking(3), exit_(3))},
        "node '2': it stands behind '1' (Affine), but a core of Speck has weights, then neurons"),
    "neurons behind a pool": ("speck", "order", pooling(pool(), spiking(3, 2, 2)),
                              "node '4': it stands behind '3' (SumPool2d), but a core of Speck"),
    "neurons first": ("speck", "order", {"row": (entry(3), spiking(3), exit_(3))},
                      "node '1': it stands behind '0' (Input), but a core of Speck has weights"),
    "oblong": ("speck", "kernels", {"row": (
        entry(2, 4, 4), nir.Conv2d(input_shape=(4, 4), weight=np.ones((3, 2, 1, 3)), stride=1,
                                   padding=(0, 1), dilation=1, groups=1, bias=np.zeros(3)),
        spiking(3, 4, 4), exit_(3, 4, 4))}, "its kernel is 1x3, but kernels are square"),
    "large kernel": ("speck", "kernels", mapped(k=17, padding=8),
                     "its kernel is 17x17, but 16x16 is the most"),
    "flattened": ("speck", "kernels", {"row": (
        entry(1, 17, 17), flat(1, 17, 17), affine(3, 289), spiking(3), exit_(3))},
        "node '2': its kernel is 17x17, but 16x16 is the most"),
    "features": ("speck", "kernels", dense(spiking(1025), sizes=(4, 1025)),
                 "it has 1025 features, but 1024 are the most"),
    "stride": ("speck", "kernels", mapped(stride=3), "its stride is 3x3, but allowed are"),
    "dilation": ("speck", "kernels", mapped(dilation=2, padding=2), "its dilation is 2x2, but"),
    "groups": ("speck", "kernels", {"row": (
        entry(2, 4, 4), conv(4, 1, groups=2), spiking(4, 4, 4), exit_(4, 4, 4))},
        "its groups is 2, but only 1 is possible"),
    "pool of three": ("speck", "pools", pooling(pool(k=(3, 3), stride=3), *tail(1)),
                      "its kernel is 3x3, but pools are square, of side (1, 2, 4)"),
    "oblong pool": ("speck", "pools", pooling(pool(k=(1, 2)), *tail()),
                    "its kernel is 1x2, but pools are square"),
    "overlap": ("speck", "pools", pooling(pool(stride=1), *tail(3)),
                "its stride is 1x1, but a pool's stride is its kernel"),
    "padded pool": ("speck", "pools", pooling(pool(padding=1), *tail(3)),
                    "its padding is 1x1, but sinabs ignores a pool's padding"),
    "thresholds": ("speck", "thresholds", dense(spiking(3, v_th=np.arange(1.0, 4.0))),
                   "its v_threshold is 1 to 3, but a core of Speck has one threshold"),
    "r": ("speck", "thresholds", dense(spiking(3, r=2.0)),
          "its r is 2, but sinabs takes r as 1"),
    "cores": ("speck", "memory", dense(*[spiking(2) for _ in range(10)], sizes=(2,) * 11),
              "network: it has 10 layers of weights, but Speck has 9 cores"),
    "weights of a core": ("speck", "memory", dense(spiking(513), sizes=(128, 513)),
                          "it takes 128 Ki words of weights, 0.500977 of neurons, but cores hold"
                          " 16 and 64, 32 and 32, 64 and 16"),
    "neurons of a core": ("speck", "memory", {"row": (
        entry(1, 64, 64), conv(17, 1, 1, side=64, padding=0), spiking(17, 64, 64),
        exit_(17, 64, 64))}, "it takes 0.03125 Ki words of weights, 68 of neurons, but cores hold"),
    "rounded up": ("speck", "memory", {"row": (
        entry(65, 4, 4), conv(33, 65), spiking(33, 4, 4), exit_(33, 4, 4))},
        "it takes 65 Ki words of weights, 0.515625 of neurons, but cores hold"),
    "bias": ("xylo", "biases", xylo(bias=0.5),
             "node '1': it has a bias, but rockpool's mapper leaves biases of weights out"),
    "v_leak": ("xylo", "biases", xylo(current(6), current(3, v_leak=0.1)),
               "its v_leak is not 0, but rockpool adds all of it in every step"),
    "inputs": ("xylo", "channels", xylo(sizes=(17, 6, 3)),
               "network: it has 17 input channels, but Xylo has 16"),
    "outputs": ("xylo", "channels", xylo(sizes=(4, 6, 9)),
                "network: it has 9 output neurons, but Xylo has 8"),
    "hidden": ("xylo", "channels", xylo(sizes=(4, 600, 401, 3)),
               "network: it has 1001 hidden neurons, but Xylo has 1000"),
    "one layer": ("xylo", "channels", xylo(sizes=(4, 3)),
                  "network: it has 1 layer of neurons, but Xylo has hidden and output neurons"),
    "feedback": ("xylo", "chain", {**xylo(sizes=(4, 4, 4)), "more": ((4, 1),)},
                 "node '1': 2 edges lead into it, but nirtorch runs a node behind its first"),
    "euler": ("xylo", "time", xylo(rule="euler"),
              "network: its time constants are meant for Euler steps and its r is tau / dt, but"
              " rockpool decays by exp(-dt / tau) and takes dt = tau_mem / (1 + r)"),
    "two steps": ("xylo", "time", xylo(current(6), current(3, slow=1.5)),
                  "node '4': r and tau_mem say steps of 0.0015 s, but rockpool needs one"
                  " step for all, here 0.001 s"),
    "two steps of others": ("xylo", "time",
                            OTHERS | dense(current(6), current(3, slow=1.5), sizes=TWO),
                            "node '4': r and tau_mem say steps of 0.0015"),
    "fast": ("xylo", "decays", xylo(current(6), current(3, keep=0.3)),
             "node '4': tau_mem is 0.831 steps, but Xylo's time constants are longer than a step"),
    "shift": ("xylo", "decays", xylo(current(6), current(3, keep=0.9)),
              "node '4': by tau_syn a step keeps 0.9 of a state, but Xylo decays by a shift and"
              " keeps 0.875"),
    "rounding on speck": ("speck", "rounded", dense(spiking(3)),
                          "DynapcnnNetwork rounds weights to 8 bits, and Speck works event by"),
    "rounding on xylo": ("xylo", "rounded", xylo(), "rockpool rounds them to 8 bits for the chip"),
    "no weights": ("spinnaker2", "order", {"row": (entry(3), leaky(3), exit_(3))},
                   "node '1': it stands behind '0' (Input), but py-spinnaker2 needs weights"),
    "weights twice": ("spinnaker2", "order", {"row": (
        entry(4), affine(3, 4), affine(3, 3), leaky(3), exit_(3))},
        "node '2': it stands behind '1' (Affine), but py-spinnaker2 refuses weights behind"),
    "neurons twice": ("spinnaker2", "order", {"row": (
        entry(4), affine(3, 4), leaky(3), leaky(3), exit_(3))},
        "node '3': it stands behind '2' (LIF), but py-spinnaker2 needs weights between"),
    "pool without neurons": ("spinnaker2", "order", {"row": (
        entry(2, 4, 4), conv(3, 2), pool(), *tail(), exit_(3))},
        "node '2': it stands behind '1' (Conv2d), but py-spinnaker2 needs neurons behind weights"),
    "pool twice": ("spinnaker2", "order", pooling(pool(k=(1, 1), stride=1), pool(), *tail()),
                   "node '4': it stands behind '3' (SumPool2d), but py-spinnaker2 has one pool"),
    "linear behind a pool": ("spinnaker2", "order", pooling(pool(), tail()[0], linear(3, 12),
                                                            leaky(3)),
                             "but py-spinnaker2 knows Affine alone behind a pool"),
    "flatten alone": ("spinnaker2", "order", {"row": (
        entry(2, 4, 4), flat(2, 4, 4), affine(3, 32), leaky(3), exit_(3))},
        "node '1': it stands behind '0' (Input), but py-spinnaker2 drops a Flatten without a pool"),
    "map of currents": ("spinnaker2", "convolutions", {"row": (
        entry(1, 2, 2), conv(1, 1, 1, side=2, padding=0), current(1, 2, 2), exit_(1, 2, 2))},
        "it leads to CubaLIF, but py-spinnaker2 has convolutions before LIF and IF only"),
    "dilated": ("spinnaker2", "convolutions", mapped(dilation=2, padding=2),
                "its dilation is not 1, but py-spinnaker2 leaves dilation out"),
    "overlap before a map": ("spinnaker2", "convolutions", pooling(
        pool(stride=1), conv(3, 3, side=3), spiking(3, 3, 3)),
        "it overlaps or has padding, but py-spinnaker2 has neither before a convolution"),
    "rim before a map": ("spinnaker2", "convolutions", pooling(
        pool(padding=1), conv(3, 3, side=3), spiking(3, 3, 3)), "it overlaps or has padding, but"),
    "fractions": ("spinnaker2", "weights", mapped(w=0.5),
                  "network: weights of '1' are not whole numbers up to 127, but SpiNNaker2's are"),
    "large": ("spinnaker2", "weights", dense(leaky(3), weights=changed(
        affine(3, 4), weight=full(-128, 3, 4))), "network: weights of '1' are not whole numbers"),
    "bias into a current": ("spinnaker2", "offsets", dense(current(3), bias=1.0),
                            "node '1': its bias goes into a current that builds up, but"
                            " py-spinnaker2 adds it to the potential, at once as large"),
    "no step": ("spinnaker2", "time", dense(leaky(3)),
                "network: it does not say how long a step is, but the code below takes 1 s"),
    "delays": ("spinnaker2", "steps", dense(leaky(3)),
               "but py-spinnaker2 delays every projection by conn_delay steps"),
}  # fmt: skip


def checked(row: Row, tmp_path: Path, target: str) -> dict[str, Any]:
    rest = {key: value for key, value in row.items() if key != "row"}
    return checking.check(file(tmp_path, *row["row"], **rest), target=target)


@pytest.mark.parametrize("name", FITS)
def test_what_fits(name: str, tmp_path: Path) -> None:
    target, row, advice = FITS[name]
    found = checked(row, tmp_path, target)
    assert (found["passed"], found["target"]) == (True, target)
    assert all(issue["severity"] == "advice" for issue in found["issues"])
    assert {issue["rule"] for issue in found["issues"]} == set(advice.split())
    compile(found["load"], "load", "exec")
    text = checking.describe_check(found)
    assert text.endswith(f"{found['reader']} takes the network to {target}")
    assert found["load"] in text


@pytest.mark.parametrize("name", BREAKS)
def test_what_breaks_a_rule(name: str, tmp_path: Path) -> None:
    target, rule, row, says = BREAKS[name]
    found = checked(row, tmp_path, target)
    said = {issue["rule"]: issue["severity"] for issue in found["issues"] if says in issue["text"]}
    assert rule in said, checking.describe_check(found)
    errors = {issue["rule"] for issue in found["issues"] if issue["severity"] == "error"}
    assert errors == ({rule} if said[rule] == "error" else set()) | ALSO.get(name, set())
    assert found["passed"] is not bool(errors)
    text = checking.describe_check(found)
    verdict = "does not take" if errors else "takes"
    assert text.endswith(f"{found['reader']} {verdict} the network to {target}")
    assert (found["load"] in text) is found["passed"]


# nir 1.0.8 mistakes the shapes behind these.
ALSO = {"oblong": {"opened"}, "groups": {"opened"}, "pool of one number": {"opened"}}


def test_what_is_meant_for_euler_steps_gets_no_advice_that_presumes_others(tmp_path: Path) -> None:
    """Each of these three, were it not for Euler steps, would break further rules."""
    row = xylo(current(6, keep=0.9, slow=1.5), current(3, keep=0.3, w_in=2))
    for rule, broken in (
        ("exact", {"time", "gains", "decays", "rounded"}), ("euler", {"time", "rounded"})
    ):  # fmt: skip
        found = checked(row | {"rule": rule}, tmp_path, "xylo")
        assert {issue["rule"] for issue in found["issues"]} == broken


def test_every_rule_has_a_source_and_is_broken_above() -> None:
    common = {"opened", "types", "input", "starts", "resets"}
    assert common <= {rule for _, rule, _, _ in BREAKS.values()}
    for target, reader in handover.READERS.items():
        broken = {rule for name, rule, _, _ in BREAKS.values() if name == target}
        assert broken | common == set(reader.sources)
        known = (
            "nir 1.0.8, ",
            "sinabs 3.1.3, ",
            "rockpool 3.1.0, ",
            "py-spinnaker2, ",
            "nirtorch 2.6, ",
        )
        assert all(source.startswith(known) for source in reader.sources.values())


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (dense(leaky(3)), "dt=1.0 integrator=FORWARD reset=ZERO conn_delay=1 scale_weights=False"),
        ({**dense(leaky(3, reset="subtract")), "dt_s": 2e-3},
         "dt=0.002 integrator=FORWARD reset=SUBTRACT conn_delay=1 scale_weights=False"),
        ({**dense(current(3)), "dt_s": 1e-3, "rule": "exact"},
         "dt=0.001 integrator=EXPONENTIAL reset=SUBTRACT conn_delay=1 scale_weights=False"),
        (mapped(w=0.5), "dt=1.0 integrator=FORWARD reset=ZERO conn_delay=0 scale_weights=True"),
    ],
)  # fmt: skip
def test_spinnaker2_is_told_what_the_file_means(row: Row, expected: str, tmp_path: Path) -> None:
    text = checked(row, tmp_path, "spinnaker2")["load"]
    for part in expected.split():
        name, value = part.split("=")
        assert re.search(rf"\b{name}=(\w+\.)?{re.escape(value)},", text), part


@pytest.mark.parametrize(
    ("reset", "name"), [("zero", "Reset()"), ("subtract", "Subtract(float(v_th))")]
)
def test_sinabs_is_told_how_neurons_reset(reset: str, name: str, tmp_path: Path) -> None:
    found = checked(dense(spiking(3, reset=reset)), tmp_path, "speck")
    assert f"sinabs.activation.Membrane{name}" in found["load"]


def test_neurons_that_reset_as_rockpool_does_are_not_blamed(tmp_path: Path) -> None:
    found = checked(xylo(current(6), current(3, reset="zero")), tmp_path, "xylo")
    assert [i["where"] for i in found["issues"] if i["rule"] == "resets"] == ["node '4'"]


@pytest.mark.parametrize("path", sorted(FOREIGN.glob("*.nir")), ids=lambda path: path.stem)
def test_files_of_others_are_judged(path: Path) -> None:
    """Whatever is a NIR file gets a verdict; none of these has what its own chip needs."""
    for target in handover.READERS:
        found = checking.check(path, target=target)
        assert found["issues"]
        assert isinstance(checking.describe_check(found), str)


def test_rockpools_own_file_has_what_rockpool_stops_at() -> None:
    found = checking.check(FOREIGN / "rockpool_lif.nir", target="xylo")
    assert "rockpool asks it for tau_mem" in checking.describe_check(found)


def test_graphs_within_graphs_are_not_followed(tmp_path: Path) -> None:
    """rockpool reads those that are a CubaLIF with weights that lead back to it."""
    names = ["in", "lif", "out"]
    nodes = dict(zip(names, (entry(3), current(3), exit_(3)), strict=True))
    inner = nir.NIRGraph(nodes, [*pairwise(names)], type_check=False)
    path = file(tmp_path, entry(4), affine(3, 4), inner, exit_(3), ends=True)
    found = checking.check(path, target="xylo")
    assert (
        "it is an end of a graph within the graph, but what rockpool makes of those is not known"
        " here; write the network flat"
    ) in checking.describe_check(found)


def test_a_folder_stands_for_its_file(tmp_path: Path) -> None:
    path = file(tmp_path, *dense(spiking(3))["row"])
    assert checking.check(tmp_path, target="speck") == checking.check(path, target="speck")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"net.nir: there is no such file"):
        checking.check(tmp_path, target="speck")


@pytest.mark.parametrize("target", handover.READERS)
@pytest.mark.parametrize("key", ["tau_mem", "tau_syn"])
def test_time_constants_are_positive(key: str, target: str, tmp_path: Path) -> None:
    node = current(3)
    setattr(node, key, np.array([1.0, 0.0, 1.0]))
    path = file(tmp_path, *dense(node)["row"])
    says = rf"^{re.escape(str(path))}: node '2' \(CubaLIF\): {key} is 0 s; time constants must be"
    with pytest.raises(ValueError, match=says):
        checking.check(path, target=target)


def test_a_step_without_end_is_too_long_for_xylo(tmp_path: Path) -> None:
    node = current(3)
    node.r = full(-1, 3)
    found = checking.check(file(tmp_path, *dense(node)["row"], ends=True), target="xylo")
    assert "tau_mem is 0 steps" in checking.describe_check(found)


STRANGE: tuple[Any, ...] = (
    "words", np.array([]), h5py.Empty("f"), np.zeros((), "i4,f4"), np.array([1j]), np.nan, True, 0,
    -1, 0.5, 1e300, 2**62, [1, 2], [[3]], np.ones((2, 3, 4)), [b"a", b"b"],
)  # fmt: skip


def test_whatever_stands_in_a_file_ends_in_a_verdict_or_a_sentence(tmp_path: Path) -> None:
    """Values of a file, replaced by strange ones; all 900 pairs were tried once, by hand."""
    path = file(tmp_path, entry(1, 4, 4), conv(2, 1), spiking(2, 4, 4), pool(), flat(2, 2, 2),
                affine(3, 8), current(3), exit_(3), dt_s=1e-3, steps=3)  # fmt: skip
    whole, names = path.read_bytes(), list[str]()
    with h5py.File(path) as opened:
        opened.visititems(lambda name, _: names.append(name))
    refused: list[ValueError] = []
    pairs = random.Random(0).sample([*product(names, STRANGE)], 80)
    for i, (name, value) in enumerate(pairs):
        path.write_bytes(whole)
        with h5py.File(path, "a") as opened:
            del opened[name]
            opened[name] = value
        for run in (partial(checking.check, target=[*handover.READERS][i % 3]), nir_read.read):
            try:
                run(path)
            except ValueError as problem:
                refused.append(problem)
    assert 40 < len(refused) < 2 * len(pairs)
    for found in refused:
        assert str(found).startswith(f"{path}: ")
        source = found.__context__  # what it completes with file and node
        assert not isinstance(source, ValueError) or _raised_by_us(source), source


def test_nothing_is_placed(tmp_path: Path) -> None:
    says = "^--fewest places a network on cores, target speck does not$"
    with pytest.raises(ValueError, match=says):
        checking.check(tmp_path, target="speck", fewest=True)


def test_export_says_what_the_reader_makes_of_it(finished: Path, tmp_path: Path, cli: Any) -> None:
    """The packaged digits are graded and leak, which Speck cannot have."""
    run = str(finished / "run")
    done = cli.spikeport("export", run, "--target", "speck", "--out", str(tmp_path / "new"))
    assert done.code == 1
    assert "its input is graded, but Speck takes spikes" in done.stdout
    assert "sinabs does not take the network to speck" in done.stdout
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["net.nir"]
    again = cli.spikeport("check", str(tmp_path / "new"), "--target", "speck", "--json")
    assert again.code == 1
    found = json.loads(again.stdout)
    assert {"types", "input"} <= {issue["rule"] for issue in found["issues"]}


@pytest.mark.parametrize("target", handover.READERS)
@pytest.mark.parametrize(
    ("row", "says"),
    [
        (dense(changed(current(3), r=np.ones(4))),
         r"node '2' \(CubaLIF\): r has 4 values, but 3 values arrive"),
        (pooling(changed(nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
                         stride=[2, 2, 2]), *tail()),
         r"node '3' \(SumPool2d\): stride is \[2, 2, 2\]; needed is one or two whole numbers"),
        (dense(spiking(3), weights=changed(affine(3, 4, 0.0), weight=[2.0])),
         r"node '1' \(Affine\): weights of shape \(1,\) do not fit a source of shape \(4,\)"),
        (dense(spiking(3), weights=affine(3, 5)),
         r"node '1' \(Affine\): weights of shape \(3, 5\) do not fit a source of shape \(4,\)"),
        ({"row": (entry(2, 3, 4), affine(3, 4), spiking(2, 3, 3), exit_(2, 3, 3))},
         r"do not fit a source of shape \(2, 3, 4\); they must be \[n_out, n_in\]"),
        (dense(spiking(3, v_th=-0.5)),
         r"node '2' \(IF\): v_threshold lies 0.5 below the potential it resets to, which chips"),
        (dense(spiking(3, v_th=0.25, v_reset=1.0)), "v_threshold lies 0.75 below the potential"),
        ({"row": (entry(4, kind="x"), affine(3, 4), spiking(3), exit_(3))},
         r"of '0' are damaged \(kind\)"),
        (dense(current(3)) | {"dt_s": 0}, r"are damaged \(dt_s\)"),
        (dense(current(3)) | {"dt_s": -1e-3}, r"are damaged \(dt_s\)"),
        (dense(current(3)) | {"format": 2}, "was written in format 2, this version reads format 1"),
    ],
)  # fmt: skip
def test_numbers_that_do_not_belong_together(
    row: Row, says: str, target: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=says):
        checked(row, tmp_path, target)
