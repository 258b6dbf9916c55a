"""NIR's neurons, which live in continuous time, as neurons that step.

With the fraction that a step of dt loses, `nir_conventions.lost`,

    LIF, LI          tau dv/dt = (v_leak - v) + r i   keep_v = 1 - lost, gain r lost
    CubaLIF, CubaLI  tau_syn di/dt = -i + w_in s      keep_u = 1 - lost, gain w_in lost
    IF, I            dv/dt = r i                      v += r i: their time is counted in steps
    Threshold        no state                         keep_v = 0, gain 1

Gains move into the incoming weights and biases, v_leak into the bias. An IF divides its threshold
by r instead. Potentials are counted from v_reset, which shifts threshold, leak and start.
Files of our own carry the decays that were trained, bit for bit; they must agree with the time
constants beside them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spikeport.export.nir_conventions import Conventions, lost
from spikeport.export.nir_file import SILENT, Node
from spikeport.export.nir_nodes import each
from spikeport.export.passes import collapse
from spikeport.sim.floating import NEVER
from spikeport.sim.synapse import Shape

Floats = NDArray[np.float64]

AGREE = 1e-9  # relative, between a decay of ours and the time constant beside it


@dataclass(frozen=True, kw_only=True)
class Neurons:
    """Discrete neurons: decays kept, gain of what arrives, bias, threshold, start; () or [n]."""

    keep_u: Floats
    keep_v: Floats
    gain: Floats
    bias: Floats
    v_th: Floats
    v_init: Floats
    reset: str
    scale: float | None


def discretised(node: Node, shape: Shape, *, said: Conventions, read_v: bool) -> Neurons:
    """Neuron `node` in steps; shape: of what arrives, as in the file.

    read_v: whether the readout looks at its potential, which must then stay in the file's units.
    Raises ValueError (without file and node, which the caller adds) for what cannot be said
    exactly.
    """
    _check_sizes(node, shape)
    keep_u, keep_v, gain, bias = _dynamics(node, shape, said)
    silent = node.type in SILENT
    v_th = np.array(NEVER) if silent else each(node, _threshold(node), shape)
    v_init = np.array(0.0)
    if said.start == "leak" and "v_leak" in node.values:
        v_init = each(node, "v_leak", shape)
    v_reset = each(node, "v_reset", shape, default=0.0)
    settled = _reset(node, said.reset)
    if v_reset.any():
        if settled != "zero" or read_v:
            what = "reset by subtraction" if settled != "zero" else "a readout of potentials"
            raise ValueError(
                f"v_reset is not 0, which {what} cannot have; shift all potentials by it"
            )
        v_th, v_init, bias = v_th - v_reset, v_init - v_reset, bias - (1 - keep_v) * v_reset
    if node.type == "IF" and not read_v and (gain > 0).all():
        v_th, v_init, gain = v_th / gain, v_init / gain, np.array(1.0)
    if node.type == "Threshold" and (v_th < 0).any():
        v_th, bias = np.maximum(v_th, 0), -np.minimum(v_th, 0)
    refuse_low(v_th)
    neurons = Neurons(
        keep_u=collapse(keep_u), keep_v=collapse(keep_v), gain=collapse(gain),
        bias=collapse(bias), v_th=collapse(v_th), v_init=collapse(v_init), reset=settled,
        scale=node.about.get("scale"),
    )  # fmt: skip
    return _exact(node, neurons, shape, rule=said.rule) if node.about else neurons


def refuse_low(v_th: Floats) -> None:
    """Raise ValueError, without file and node, for thresholds, counted from v_reset, below 0."""
    if (v_th < 0).any():
        raise ValueError(
            f"v_threshold lies {-v_th.min():g} below the potential it resets to, which chips"
            " cannot have; put it above"
        )


def _check_sizes(node: Node, shape: Shape) -> None:
    found, size = max(np.size(value) for value in node.values.values()), int(np.prod(shape))
    if found > size:
        raise ValueError(f"has {found} neurons, but {size} values arrive")


def _dynamics(node: Node, shape: Shape, said: Conventions) -> tuple[Floats, Floats, Floats, Floats]:
    """keep_u, keep_v, gain and bias."""
    keep_u, keep_v, bias = np.array(0.0), np.array(1.0), np.array(0.0)
    if node.type == "Threshold":
        return keep_u, np.array(0.0), np.array(1.0), bias
    gain = each(node, "r", shape)
    if node.type in ("I", "IF"):
        return keep_u, keep_v, gain, bias
    current = node.type in ("CubaLI", "CubaLIF")
    share = _lost(node, "tau_mem" if current else "tau", shape, said)
    keep_v, gain, bias = 1 - share, gain * share, each(node, "v_leak", shape) * share
    if current:
        share = _lost(node, "tau_syn", shape, said)
        keep_u, gain = 1 - share, gain * share * each(node, "w_in", shape, default=1.0)
    return keep_u, keep_v, gain, bias


def _lost(node: Node, key: str, shape: Shape, said: Conventions) -> Floats:
    """The fraction of a state that one step loses."""
    tau, dt_s = each(node, key, shape), said.step_s
    least = tau.min()
    if least <= 0:
        raise ValueError(f"{key} is {least:g} s; time constants must be positive")
    if said.rule == "euler" and least < dt_s * (1 - AGREE):
        raise ValueError(
            f'{key} is {least:g} s and a step {dt_s} s; by the rule "euler" a step is not longer'
            ' than the time constant, choose a smaller dt_s or rule="exact"'
        )
    return np.minimum(lost(dt_s, tau, rule=said.rule), 1.0)


def _threshold(node: Node) -> str:
    return "threshold" if node.type == "Threshold" else "v_threshold"


def _reset(node: Node, wanted: str | None) -> str:
    if node.type in (*SILENT, "Threshold"):
        return "zero"  # they have nothing to reset
    known = node.about.get("reset")
    if wanted is not None and known is not None and wanted != known:
        raise ValueError(
            f"was written with reset {known!r}, not {wanted!r}; leave the argument out"
        )
    return str(wanted or known or "zero")


def _exact(node: Node, neurons: Neurons, shape: Shape, *, rule: str) -> Neurons:
    """The decays our writer recorded, after checking them against the time constants."""
    if rule != node.about.get("rule", "euler"):
        raise ValueError(
            f"the file records its decays, the rule {rule!r} would change them; leave it out"
        )
    keep_u, keep_v = (np.array(node.about.get(key, np.nan)) for key in ("keep_u", "keep_v"))
    gain = np.array(node.about.get("gain", 1.0))
    pairs = ((keep_u, neurons.keep_u), (keep_v, neurons.keep_v), (gain, neurons.gain))
    sizes = {1, int(np.prod(shape))}
    if not all(
        exact.size in sizes and np.allclose(exact, found, rtol=AGREE, atol=AGREE)
        for exact, found in pairs
    ):
        raise ValueError(
            "time constants and the decays in the metadata disagree; the file was edited or dt_s"
            " is not the one it was written with"
        )
    v_init = np.asarray(neurons.v_init + np.array(node.about.get("v_init", 0.0)))
    return replace(neurons, keep_u=keep_u, keep_v=keep_v, gain=gain, v_init=v_init)
