"""Record the golden traces: run every network of `golden_nets.py` on the real Lava runtime.

    python tests/golden/make_golden.py            record what is missing, check the rest
    python tests/golden/make_golden.py --replace  record all anew

The only writer of `*.npz` here; never run by tests. It goes to Lava's own processes directly, past
`spikeport.hw`, so that a mistake there cannot become the truth here. A changed golden needs a
commit that says why its digest changed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from golden_nets import CASES, SEED, fingerprint, golden
from numpy.typing import NDArray

from spikeport.sim import files
from spikeport.sim.net import FixedNet, Population, Projection
from spikeport.sim.synapse import Conv2d

HERE = Path(__file__).parent


def record(net: FixedNet, x: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """`<population>.<quantity>` -> [T, 1, n], recorded by Lava's monitors on one sample."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.monitor.process import Monitor

    steps, total = len(x), len(x) + max(net.depths.values())
    groups = {p.name: lif(p, depth=net.depths[p.name], total=total) for p in net.populations}
    for projection, delay in zip(net.projections, net.chip_delays, strict=True):
        if projection.source == "input":
            port = shown(net, x, late=delay, total=total)
        elif delay:
            raise ValueError(f"{projection.target}: only what the input sends can be late here")
        else:
            port = groups[projection.source].s_out
        connect(net, projection, port, groups[projection.target].a_in)
    monitors = {}
    for name, neurons in groups.items():
        for quantity, watched in (("spikes", neurons.s_out), ("u", neurons.u), ("v", neurons.v)):
            monitor = Monitor()
            monitor.probe(watched, total)
            monitors[name, quantity] = (monitor, neurons, net.depths[name])
    try:
        neurons.run(RunSteps(total), Loihi2SimCfg(select_tag="fixed_pt"))
        return {
            f"{name}.{quantity}": only_value(monitor.get_data())[depth : depth + steps]
            for (name, quantity), (monitor, _, depth) in monitors.items()
        }
    finally:
        neurons.stop()


def shown(net: FixedNet, x: NDArray[np.int64], *, late: int, total: int) -> Any:
    """Port of a source that begins to send the input after `late` steps."""
    from lava.proc.io.source import RingBuffer

    data = np.zeros((*reversed(net.input.shape), total), np.int32)
    heard = x[: total - late, 0]
    data[..., late : late + len(heard)] = lava_order(heard).transpose(*range(1, x.ndim - 1), 0)
    return RingBuffer(data=data).s_out


def lif(population: Population, *, depth: int, total: int) -> Any:
    """A population that is reset once, at the first step of its window (steps count from 1)."""
    from lava.proc.lif.process import LIFReset

    bias = np.broadcast_to(population.bias, population.size)
    return LIFReset(
        shape=population.shape[::-1],
        du=int(population.du),
        dv=int(population.dv),
        vth=int(population.v_th),
        bias_mant=lava_order(bias.reshape(1, *population.shape))[0],
        bias_exp=population.bias_exp,
        reset_interval=2 * total,
        reset_offset=depth + 1,
    )


def connect(net: FixedNet, projection: Projection, source: Any, target: Any) -> None:
    """A projection between Lava's ports."""
    from lava.proc.conv.process import Conv
    from lava.proc.dense.process import Dense

    bits = 0
    synapse: Any = projection.synapse
    if projection.source == "input" and net.input.kind == "graded":
        bits = net.input.payload_bits
    if isinstance(synapse, Conv2d):
        geometry = synapse.geometry
        process = Conv(
            weight=synapse.w[:, :, ::-1, ::-1].transpose(0, 3, 2, 1).astype(np.int32),
            input_shape=source.shape,
            stride=geometry.stride[::-1],
            padding=geometry.padding[::-1],
            dilation=geometry.dilation[::-1],
            groups=geometry.groups,
            num_message_bits=bits,
        )
        source.connect(process.s_in)
    else:
        process = Dense(
            weights=synapse.w.astype(np.int32), weight_exp=synapse.w_exp, num_message_bits=bits
        )
        flat = source.transpose([2, 1, 0]).flatten() if len(source.shape) == 3 else source
        flat.connect(process.s_in)
    process.a_out.connect(target)


def lava_order(values: NDArray[Any]) -> NDArray[Any]:
    """[N, C, H, W] as [N, W, H, C], which is Lava's (x, y, c); [N, n] as it is."""
    return values.transpose(0, *range(values.ndim - 1, 0, -1))


def only_value(nested: Any) -> NDArray[np.int64]:
    """The one array [T, ...] in a monitor's dictionaries as [T, 1, n] in C order of (C, H, W)."""
    while isinstance(nested, dict):
        (nested,) = nested.values()
    values = lava_order(np.asarray(nested))
    return values.reshape(len(values), 1, -1).astype(np.int64)


def chosen(*, replace: bool) -> Iterator[str]:
    """Names of the cases to record; raises when a recorded one no longer fits its network."""
    for name in CASES:
        path = HERE / f"{name}.npz"
        if replace or not path.exists():
            yield name
        elif json.loads(str(np.load(path)["header"]))["digest"] != fingerprint(*golden(name)[1:]):
            raise SystemExit(f"{path.name}: its network has changed; record anew with --replace")


def main() -> None:
    for name in chosen(replace="--replace" in sys.argv[1:]):
        why, net, x = golden(name)
        header = {
            "what": f"spikes, u and v of every step of golden_nets.{name}",
            "why": why,
            "lava": version("lava-nc"),
            "seed": SEED,
            "digest": fingerprint(net, x),
        }
        traces = record(net, x)
        with files.atomic(HERE / f"{name}.npz") as path:
            np.savez_compressed(path, header=json.dumps(header), x=x, **traces)
        spikes = sum(int(v.sum()) for k, v in traces.items() if k.endswith(".spikes"))
        sys.stdout.write(f"{name}: {spikes} spikes; {json.dumps(header)}\n")


if __name__ == "__main__":
    main()
