"""The least that a robustness figure must have withstood before it is published.

SA-PGD through ASSG of several sharpnesses, APGD on cross-entropy, targeted APGD on the ratio of
logits (untargeted where there are fewer than four classes), Square, and the worst images of the
other networks set beside it, which `evaluate` exchanges. Gradients of APGD come from two fixed
windows, one of them with the reset let through, because the window that a defence was trained with
may be the one that it starves (arXiv 2512.22522; Croce and Hein 2020, arXiv 2003.01690). What finds
most comes first: in a cascade the others then have fewer samples left.
"""

from __future__ import annotations

from spikeport.sim.attack.apgd import Apgd, ApgdTargeted
from spikeport.sim.attack.momentum import SaPgd
from spikeport.sim.attack.search import Aimed, Spec
from spikeport.sim.attack.square import Square
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.twin_base import TwinBase
from spikeport.sim.twin_rules import Assg

WINDOWS = {"triangle-1": Surrogate("triangle", 1.0), "atan-2": Surrogate("atan", 2.0)}
"""Fixed windows of the gradient by name, for all who climb through some. An attack is only as
strong as its gradient, and which window serves best differs from net to net."""

LETS_RESET_THROUGH = "atan-2"
"""The window that the standard climbs with the reset in the gradient."""

STEPS, QUERIES = 100, 1000
"""The least effort: of each gradient attack, and of Square."""

SHARPNESS = (0.425, 0.475, 0.35)
"""Areas of ASSG, see `Assg`: which serves best differs from network to network."""

TARGETS = 3
"""Classes that targeted APGD tries, the likeliest first; more cost much and find hardly any."""

RATIO_CLASSES, TARGET_CLASSES = 3, 4
"""Logits that the ratio of logits needs, and the targeted one."""


def standard_views(twin: TwinBase) -> dict[str, TwinBase]:
    """The views of one network that the standard climbs, by name; they share its weights."""
    fixed = {
        name: twin.through(window, detach_reset=name != LETS_RESET_THROUGH)
        for name, window in WINDOWS.items()
    }
    return fixed | {_name(a): twin.through(Assg(area=a), detach_reset=True) for a in SHARPNESS}


def standard(classes: int, *, steps: int = STEPS, queries: int = QUERIES) -> dict[str, Spec]:
    """The attacks of the standard by label, for networks with that many `classes`, to be run as a
    cascade on `standard_views`. steps: of each gradient attack; queries: of Square."""
    climbed: dict[str, Spec] = {}
    for area in SHARPNESS:
        name = _name(area)
        climbed[f"sa-pgd-{steps}-{name}"] = Aimed(attack=SaPgd(steps=steps), views=(name,))
    climbed[f"apgd-ce-{steps}"] = Aimed(attack=Apgd(steps=steps), views=tuple(WINDOWS))
    if classes >= TARGET_CLASSES:
        target = ApgdTargeted(steps=steps, targets=TARGETS)
        climbed[f"apgd-t-{steps}"] = Aimed(attack=target, views=("triangle-1",))
    elif classes >= RATIO_CLASSES:
        ratio = Apgd(steps=steps, loss="dlr")
        climbed[f"apgd-dlr-{steps}"] = Aimed(attack=ratio, views=tuple(WINDOWS))
    return climbed | {f"square-{queries}": Square(queries=queries)}


def _name(area: float) -> str:
    return f"assg-{area}"
