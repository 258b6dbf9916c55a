"""Training methods, by the name of their table in a configuration: [methods.NAME]."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import model_validator

from spikeport.train.methods.adversarial import Adversarial
from spikeport.train.methods.agl import Lsg, MpdAgl
from spikeport.train.methods.base import Method, Section
from spikeport.train.methods.chip_margin import ChipMargin
from spikeport.train.methods.dsatgo import Dsatgo
from spikeport.train.methods.dsd import Dsd
from spikeport.train.methods.guard_tgo import GuardTgo
from spikeport.train.methods.mp_init import MpInit
from spikeport.train.methods.mpd_sgr import MpdSgr
from spikeport.train.methods.msg import Msg
from spikeport.train.methods.ottt import Ottt
from spikeport.train.methods.rat import Rat
from spikeport.train.methods.sr import Sr
from spikeport.train.methods.tet import Tet
from spikeport.train.methods.trades import Trades
from spikeport.train.methods.trsg import Trsg

# Left out, because no source at hand gives their equations: PSG and PDA (arXiv 2304.13289), the
# self-prediction neuron GSPE (2601.21823), and the self-ensemble SEI-BWSNN (2508.12609).


class Methods(Section):
    """The methods of a run, each absent unless its table is there; applied in this order."""

    mpd_sgr: MpdSgr | None = None
    lsg: Lsg | None = None
    mpd_agl: MpdAgl | None = None
    trsg: Trsg | None = None
    dsatgo: Dsatgo | None = None
    mp_init: MpInit | None = None
    guard_tgo: GuardTgo | None = None
    chip_margin: ChipMargin | None = None
    tet: Tet | None = None
    ottt: Ottt | None = None
    adversarial: Adversarial | None = None
    trades: Trades | None = None
    sr: Sr | None = None
    dsd: Dsd | None = None
    msg: Msg | None = None
    rat: Rat | None = None

    def active(self) -> dict[str, Method]:
        """Name and method of those that are there."""
        return {name: method for name, method in self._all() if method is not None}

    def of_phase(self, phase: str) -> tuple[Method, ...]:
        """The methods whose training hooks act in `phase`."""
        return tuple(method for method in self.active().values() if phase in method.phases)

    def _all(self) -> Iterator[tuple[str, Method | None]]:
        return ((name, getattr(self, name)) for name in type(self).model_fields)

    @model_validator(mode="after")
    def _claimed_once(self) -> Methods:
        owners: dict[str, str] = {}
        for name, method in self.active().items():
            for claim in sorted(method.claims):
                other = owners.setdefault(claim, name)
                if other != name:
                    raise ValueError(
                        f"methods.{other} and methods.{name} both set the {claim}; keep one"
                    )
        return self
