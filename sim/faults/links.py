"""A projection as a replay takes it: its plain sums without faults, its weights by source."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.faults.fault import Fault
from spikeport.sim.faults.kernel import gather, reweigh, spread
from spikeport.sim.faults.stored import factors, stored_weights
from spikeport.sim.net import FixedNet
from spikeport.sim.product import prepare
from spikeport.sim.synapse import Dense, Shape, SumPool2d, lowered


@dataclass(kw_only=True, eq=False)
class Touched:
    """Rows of a population that must live again: marks uint8 [B * n], and a list of them."""

    mark: NDArray[np.uint8]
    rows: NDArray[np.int64]
    count: int = 0

    @classmethod
    def empty(cls, size: int) -> Touched:
        return cls(mark=np.zeros(size, np.uint8), rows=np.empty(size, np.int64))

    def taken(self) -> NDArray[np.int64]:
        """The rows, which are then touched no more."""
        rows = self.rows[: self.count].copy()
        self.mark[rows] = 0
        self.count = 0
        return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Changes:
    """Values of a source that differ from those without faults. rows: int64 [m], b * n + i, each
    at most once; deltas: int32 [m, T]."""

    rows: NDArray[np.int64]
    deltas: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Link:
    """One projection over a fixed input.

    w: int32 [C_in, kH, kW, C_out/groups]; at: int64 [13], stride, padding and dilation (y, x), size
    of the source's maps and of the target's (y, x), channels of a group, and values of the source
    and of the target, where dense synapses have maps of 1x1; values: [B * n_in, T], what the source
    sends without faults; raw: int32 [B * n_out, T], plain sums of it; sums: int32 [B * n_out, T],
    zero between replays; first: number of the first sample.
    """

    number: int
    source: str
    delay: int
    w: NDArray[np.int32]
    at: NDArray[np.int64]
    w_exp: int
    wraps: bool
    pool: bool
    values: NDArray[np.int32]
    raw: NDArray[np.int32]
    sums: NDArray[np.int32]
    first: int

    @classmethod
    def of(cls, net: FixedNet, number: int, s: NDArray[np.int32], *, first: int) -> Link:
        """Projection `number` of `net` whose source sends s [T, B, ...]; see `Replay`."""
        p = net.projections[number]
        shape: Shape = net.shape_of(p.source)
        part = lowered(p.synapse, shape)
        product = prepare(p, shape=shape, largest=net.input.largest if p.source == "input" else 1)
        steps, batch = s.shape[:2]
        total = product(s).astype(np.int64).astype(np.int32)  # plain sums, modulo 2**32
        late = np.zeros_like(total)
        if p.delay < steps:
            late[p.delay :] = total[: steps - p.delay]
        stored, out = stored_weights(part), part.output_shape(shape)
        if isinstance(part, Dense):
            stored = stored[:, :, None, None]
            shape, out = (stored.shape[1], 1, 1), (*out, 1, 1)
            windows, groups = (1, 1, 0, 0, 1, 1), 1
        else:
            g = part.geometry
            windows, groups = (*g.stride, *g.padding, *g.dilation), g.groups
        per_out, per_in = len(stored) // groups, stored.shape[1]
        laid_out = stored.reshape(groups, per_out, per_in, *stored.shape[2:])
        laid_out = laid_out.transpose(0, 2, 3, 4, 1).reshape(-1, *stored.shape[2:], per_out)
        sizes = (*shape[1:], *out[1:], per_in, np.prod(shape), np.prod(out))
        return cls(
            number=number, source=p.source, delay=min(p.delay, steps),
            w=np.ascontiguousarray(laid_out, np.int32), at=np.array((*windows, *sizes), np.int64),
            w_exp=part.w_exp if isinstance(part, Dense) else 0, wraps=not isinstance(part, Dense),
            pool=isinstance(p.synapse, SumPool2d), values=in_rows(s), raw=in_rows(late),
            sums=np.zeros((batch * total.shape[2], steps), np.int32), first=first,
        )  # fmt: skip

    @property
    def n_in(self) -> int:
        return int(self.at[-2])

    @property
    def batch(self) -> int:
        return len(self.values) // self.n_in

    def sent(self, changes: Changes | None, faults: Iterable[Fault]) -> Changes | None:
        """`changes` of the source as this projection sees them, under its spike `faults`."""
        for index in sorted({int(f.index) for f in faults if f.index is not None}):
            rows = np.arange(self.batch) * self.n_in + index
            now = self.values[rows]
            if changes is not None:
                own = changes.rows % self.n_in == index
                now[changes.rows[own] // self.n_in] += changes.deltas[own]
            for fault in faults:
                if fault.index == index:
                    steps = now.shape[1]
                    now = now * factors(fault, steps=steps, batch=self.batch, first=self.first)
            deltas = (now - self.values[rows]).astype(np.int32)
            some = deltas.any(1)
            parts = [(rows[some], deltas[some])]
            if changes is not None:
                parts.append((changes.rows[~own], changes.deltas[~own]))
            changes = Changes(
                rows=np.concatenate([r for r, _ in parts]),
                deltas=np.concatenate([d for _, d in parts]),
            )
        return changes

    def add(
        self, sent: Changes | None, weights: NDArray[np.int64] | None, touched: Touched
    ) -> None:
        """Add to the sums what changes with `sent` and, where given, with the stored `weights`."""
        if sent is not None:
            touched.count = spread(
                sent.rows, sent.deltas, self.w, self.at, self.delay, self.sums, touched.mark,
                touched.rows, touched.count,
            )  # fmt: skip
        if weights is None:
            return
        for (channel, k_y, k_x, o), change in self._reweighed(weights):
            per_in, per_out = int(self.at[10]), self.w.shape[3]
            touched.count = reweigh(
                self._channel(channel, sent), change, channel // per_in * per_out + o, k_y, k_x,
                self.at, self.delay, self.sums, touched.mark, touched.rows, touched.count,
            )  # fmt: skip

    def _reweighed(self, weights: NDArray[np.int64]) -> list[tuple[tuple[int, int, int, int], int]]:
        """Where `w` changes, (channel, k_y, k_x, o of the group), and by how much."""
        if self.pool:
            now = np.full(self.w.shape, weights[0])
        else:
            per_in, per_out = int(self.at[10]), self.w.shape[3]
            now = weights.reshape(-1, per_out, per_in, *self.w.shape[1:3])
            now = now.transpose(0, 2, 3, 4, 1).reshape(self.w.shape)
        change = now - self.w
        return [
            ((int(c), int(y), int(x), int(o)), int(change[c, y, x, o]))
            for c, y, x, o in np.argwhere(change)
        ]

    def _channel(self, channel: int, sent: Changes | None) -> NDArray[np.int32]:
        """What one channel sends now: int32 [B, H * W, T]."""
        pixels = int(self.at[6] * self.at[7])
        steps = self.values.shape[1]
        maps = self.values.reshape(self.batch, -1, pixels, steps)
        now: NDArray[np.int32] = maps[:, channel].copy()
        if sent is not None:
            i = sent.rows % self.n_in
            own = i // pixels == channel
            now[sent.rows[own] // self.n_in, i[own] % pixels] += sent.deltas[own]
        return now

    def arrive(self, rows: NDArray[np.int64], a: NDArray[np.int32]) -> None:
        """Add what arrives in `rows` of the target to a [m, T], and forget the changes."""
        gather(self.raw, self.sums, rows, max(self.w_exp, 0), max(-self.w_exp, 0), self.wraps, a)


def in_rows(values: NDArray[np.int32]) -> NDArray[np.int32]:
    """[T, B, ...] as [B * n, T]."""
    steps, batch = values.shape[:2]
    turned = values.reshape(steps, batch, -1).transpose(1, 2, 0)
    return np.ascontiguousarray(turned).reshape(-1, steps)
