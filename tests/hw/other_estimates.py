"""What two other programs say about the same runs.

    python tests/hw/other_estimates.py [--out estimates.json]

SANA-FE 2.2.9 simulates the same neurons on the same cores, with its own file of Loihi, and
NeuroBench 2.3.0 counts the operations of the same layers. Neither is installed with this package:
SANA-FE is under the GPL, and NeuroBench brings a torchaudio along that does not fit the pinned
torch. So `estimates.json` keeps what they said, and tests compare with it. To make it anew:

    uv pip install --no-deps --target OTHERS sanafe==2.2.9 neurobench==2.3.0
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw.mesh import position, tile_of
from spikeport.hw.place import Placement, place
from spikeport.hw.target import TARGETS
from spikeport.sim import engine
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense
from spikeport.sim.trace import Trace

RESULT = Path(__file__).with_name("estimates.json")
STEPS = 20


def nets() -> dict[str, FixedNet]:
    """Neurons that spike by themselves, two layers behind them. Weights are hardly 0, as where
    what arrives adds up to 0 SANA-FE counts a neuron as active and we do not."""
    return {"dense": _net(0, conv=False), "conv": _net(1, conv=True), "wide": _net(2, conv=False)}


def _net(seed: int, *, conv: bool) -> FixedNet:
    rng = np.random.default_rng(seed)
    shape: tuple[int, ...] = (2, 4, 4) if conv else (32,)
    size: tuple[int, ...]
    if conv:
        same = ConvGeometry(padding=(1, 1))
        middle, size = Conv2d(w=rng.integers(0, 20, (3, 2, 3, 3)), geometry=same), (3, 4, 4)
        second: Any = middle
    else:
        second, size = Dense(w=2 * rng.integers(1, 9, (20, 32))), (20,)
    bias = rng.integers(300, 3000, 32)
    return FixedNet(
        input=Input(shape=(1,)),
        populations=(
            Population(name="a", shape=shape, v_th=100, bias=bias, bias_exp=1),
            Population(name="b", shape=size, v_th=150),
            Population(name="c", shape=(6,), v_th=100),
        ),
        projections=(
            Projection(source="a", target="b", synapse=second),
            Projection(
                source="b",
                target="c",
                synapse=Dense(w=2 * rng.integers(0, 20, (6, int(np.prod(size))))),
            ),
        ),
        readout=Readout(population="c"),
        steps=STEPS,
    )


def run(net: FixedNet) -> tuple[NDArray[np.int64], Trace, Placement]:
    """Input, trace and a placement on cores of four neurons."""
    x = np.zeros((STEPS, 1, 1), np.int64)
    target = TARGETS["loihi1"]
    target = replace(target, chip=replace(target.chip, neurons=4))
    return x, engine.run(net, x, record=True), place(net, target)


def by_sanafe(net: FixedNet) -> dict[str, Any]:
    """SANA-FE's figures of the first STEPS chip steps, in which every window is open or about to:
    joules by part, seconds of each step, hops and neurons that fired and were updated."""
    sanafe = import_module("sanafe")
    _, _, placement = run(net)
    chip = sanafe.load_loihi()
    where = {(i // 4, i % 4): tile for i, tile in enumerate(chip.tiles)}  # its own tile numbers
    model, groups = sanafe.Network(), {}
    for p in net.populations:
        into = [q.synapse for q in net.projections if q.target == p.name]
        kind = "conv" if any(isinstance(s, Conv2d) for s in into) else "dense"
        attributes = {"reset_mode": "hard", "leak_decay": 1.0, "threshold": float(p.v_th) * 64}
        groups[p.name] = list(
            model.create_neuron_group(
                p.name, p.size, model_attributes=attributes, soma_hw_name="loihi_lif",
                default_dendrite_hw_name="loihi_dendrites",
                default_synapse_hw_name=f"loihi_{kind}_synapse",
            )
        )  # fmt: skip
        bias = np.broadcast_to(p.bias_shifted, p.size)
        for neuron, b, core in zip(
            groups[p.name], bias, placement.core_of(p.name).tolist(), strict=True
        ):
            neuron.set_attributes(model_attributes={"bias": float(b)})
            _, row, column = position(tile_of(core, 128), 128)
            neuron.map_to_core(where[column, row].cores[core % 4])
    for q in net.projections:
        for j, i, w in _synapses(net, q):
            weight = {"weight": float(w * 64)}
            groups[q.source][j].connect_to_neuron(groups[q.target][i], weight)
    chip = sanafe.SpikingChip(chip)
    chip.load(model)
    found = chip.sim(STEPS, timing_model="simple", perf_trace=True)["perf_trace"]
    totals = {part: sum(found[f"{part}_energy"]) for part in ("synapse", "soma", "network")}
    steps = {name: list(found[name]) for name in ("sim_time", "hops", "fired", "updated")}
    return {"joules": totals, **steps}


def _synapses(net: FixedNet, q: Projection) -> list[tuple[int, int, int]]:
    """(source, target, weight) of every synapse, zeros included, by the definition."""
    if isinstance(q.synapse, Dense):
        return [(j, i, int(w)) for (i, j), w in np.ndenumerate(q.synapse.w_chip)]
    assert isinstance(q.synapse, Conv2d)
    shape, w = net.shape_of(q.source), q.synapse.w
    to = q.synapse.output_shape(shape)
    found = []
    for o, y, x in np.ndindex(*to):
        for c, ky, kx in np.ndindex(*w.shape[1:]):
            if 0 <= y + ky - 1 < shape[1] and 0 <= x + kx - 1 < shape[2]:
                j = int(np.ravel_multi_index((c, y + ky - 1, x + kx - 1), shape))
                found.append((j, int(np.ravel_multi_index((o, y, x), to)), int(w[o, c, ky, kx])))
    return found


def by_neurobench(net: FixedNet) -> dict[str, float]:
    """NeuroBench's operations, of all steps and layers, and its sparsities."""
    torch, nn = import_module("torch"), import_module("torch.nn")
    macs = import_module("neurobench.metrics.utils.layers").single_layer_MACs
    static = import_module("neurobench.metrics.static")
    workload = import_module("neurobench.metrics.workload")
    _, trace, _ = run(net)
    layers, effective, dense = [], 0.0, 0.0
    for q in net.projections:
        layer: Any
        if isinstance(q.synapse, Dense):
            layer = nn.Linear(*q.synapse.w.shape[::-1], bias=False)
            w: Any = q.synapse.w_chip
        else:
            assert isinstance(q.synapse, Conv2d)
            layer = nn.Conv2d(2, 3, 3, padding=1, bias=False)
            w = q.synapse.w
        layer.weight.data = torch.tensor(np.array(w), dtype=torch.float32)
        layers.append(layer)
        shape = net.shape_of(q.source) if isinstance(layer, nn.Conv2d) else (-1,)
        for spikes in trace[q.source].spikes[:, 0]:
            s = torch.tensor(spikes, dtype=torch.float32).reshape(1, *shape)
            effective += float(macs(s, layer)[0])
            dense += float(macs(s, layer, total=True)[0])

    class Model:
        """What NeuroBench asks a model for."""

        activation_hooks = tuple(
            type("Hook", (), {"activation_outputs": [torch.tensor(p.spikes)]})
            for p in trace.populations.values()
        )

        def __net__(self) -> Any:
            return nn.Sequential(*layers)

    return {
        "effective_acs": effective,
        "dense_operations": dense,
        "connection_sparsity": static.ConnectionSparsity()(Model()),
        "activation_sparsity": workload.ActivationSparsity()(Model(), None, None),
    }


def main() -> None:
    """Ask both, and write what they say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULT)
    found = {
        name: {"sanafe": by_sanafe(net), "neurobench": by_neurobench(net)}
        for name, net in nets().items()
    }
    parser.parse_args().out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
