"""One integer tick of a population of leaky integrate-and-fire neurons. The equations stand here.

With all quantities integers, `a` the synaptic sum arriving in this step and `>> 0` a division that
rounds toward zero,

    u <- wrap( (u * (4096 - (du + 1)) >> 0 12) + (a << 6) )      synaptic current, 24 bit
    v <- clip( (v * (4096 - dv) >> 0 12) + u + bias )            membrane potential, 24 bit
    s <- v > (v_th << 6)                                         strict
    v <- 0 where s                     (reset "zero")
    v <- v - (v_th << 6) where s       (reset "subtract", once in the spiking step)

Source: lava-nc 0.10.0 `PyLifModelBitAcc`, measured. The tick uses operators only and runs on numpy
arrays (the reference) and torch tensors (the twin, quantisation-aware training). The fast kernel in
`engine.py` is the one other spelling; tests hold the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spikeport.sim.arith import (
    DECAY_ONE,
    DU_OFFSET,
    STATE_SHIFT,
    U_LIMIT,
    V_LIMIT,
    Ints,
    saturate_v,
    shift_to_zero,
    wrap_int32,
    wrap_u,
)


@dataclass(frozen=True, kw_only=True)
class LifParameters:
    """What a tick needs besides state and input; scalars or arrays that broadcast to [..., n].

    du, dv: 0..4095, lost fractions of 4096. v_th: 0..131071. bias: mantissa already shifted by its
    exponent. reset: "zero" or "subtract".
    """

    du: Ints
    dv: Ints
    v_th: Ints
    bias: Ints
    reset: str = "zero"


@dataclass(frozen=True, kw_only=True)
class Tick:
    """Result of one step: new `u` and `v`, `v_fired` (v before the reset), spikes `s` as 0/1 of
    the comparison's type, and where the current wrapped or the potential was clipped."""

    u: Ints
    v: Ints
    v_fired: Ints
    s: Any
    wrapped: Any
    clipped: Any


def tick(u: Ints, v: Ints, a: Ints, p: LifParameters) -> Tick:
    """Advance state (u, v) by one step with synaptic sum `a`; all int64, same shape [..., n]."""
    decayed: Ints = shift_to_zero(u, DECAY_ONE - DU_OFFSET - p.du)
    raw: Ints = wrap_int32(wrap_int32(a << STATE_SHIFT) + decayed)
    u_new: Ints = wrap_u(raw)
    kept: Ints = shift_to_zero(v, DECAY_ONE - p.dv)
    total: Ints = wrap_int32(wrap_int32(kept + u_new) + p.bias)
    v_fired: Ints = saturate_v(total)
    threshold: Ints = p.v_th << STATE_SHIFT
    s: Ints = v_fired > threshold
    if p.reset == "zero":
        v_new = v_fired * (s == 0)
    else:
        v_new = v_fired - s * threshold
    return Tick(
        u=u_new,
        v=v_new,
        v_fired=v_fired,
        s=s,
        wrapped=(raw > U_LIMIT) | (raw <= -U_LIMIT),
        clipped=(total > V_LIMIT) | (total < -V_LIMIT),
    )
