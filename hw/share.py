"""Cores that several small layers share."""

from __future__ import annotations

from collections.abc import Sequence

from spikeport.hw.cost import Use

DEEPEST = 256  # the search goes one call deeper for each layer, and Python has an end to that
TRIES = 20_000  # partial arrangements looked at; the first complete one is first fit


def shared(uses: Sequence[Use], room: Use, *, share: float) -> list[list[int]]:
    """Which of `uses` go together on a core with `room` so that the fewest cores are needed and
    none gets busier than `share`: lists of indices.

    Exact for a dozen layers, and up to DEEPEST never worse than first fit by size. More are dealt
    out by size to two halves that have no core in common, which may cost some cores.
    """
    order = sorted(range(len(uses)), key=lambda i: (-uses[i].share(room), i))
    if len(uses) > DEEPEST:
        halves = order[::2], order[1::2]
        parts = [shared([uses[i] for i in half], room, share=share) for half in halves]
        return [
            sorted(half[i] for i in group)
            for half, part in zip(halves, parts, strict=True)
            for group in part
        ]
    best: list[list[int]] = [[i] for i in order]
    bins: list[tuple[Use, list[int]]] = []
    tries = 0

    def put(place: int) -> None:
        nonlocal best, tries
        tries += 1
        if len(bins) >= len(best) or tries > TRIES:
            return
        if place == len(order):
            best = [list(members) for _, members in bins]
            return
        i = order[place]
        for at, (use, members) in enumerate(bins):
            more = use.plus(uses[i])
            if more.fits(room) and more.share(room) <= share:
                bins[at] = more, [*members, i]
                put(place + 1)
                bins[at] = use, members
        bins.append((uses[i], [i]))
        put(place + 1)
        bins.pop()

    put(0)
    return [sorted(members) for members in best]
