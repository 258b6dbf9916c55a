"""Training methods, by the name of their table in a configuration: [methods.NAME]."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import model_validator

from spikeport.train.methods.base import Method, Section
from spikeport.train.methods.mpd_sgr import MpdSgr


class Methods(Section):
    """The methods of a run, each absent unless its table is there; applied in this order."""

    mpd_sgr: MpdSgr | None = None

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
