"""Hardware faults on a deployed network: what flipped bits and dead neurons cost in accuracy.

    fault = Fault(kind="weight", part=0, index=17, bit=7)
    net = faulty(net, [fault])                  # flips in weights and thresholds, for good
    trace = inject.run(net, x, [fault])         # any fault; the definition
    logits = Replay(net, x).logits([fault])     # the same bits, for thousands of faults
    result = run(net, {"clean": x}, labels, campaign=Campaign(...), trials=10_000)
    print(report(result))

`spikeport.sim.faults.fault` says what kinds there are, `stored` what a bit stands for, `summary`
what the report's intervals mean.
"""

from spikeport.sim.faults import inject
from spikeport.sim.faults.campaign import Campaign, run, run_trials
from spikeport.sim.faults.fault import KINDS, Cores, Fault
from spikeport.sim.faults.replay import Replay
from spikeport.sim.faults.result import Result, Trial, read, write
from spikeport.sim.faults.stored import faulty
from spikeport.sim.faults.summary import (
    Row,
    accuracy,
    by_bit,
    by_kind,
    by_part,
    curve,
    report,
    wilson,
    worst,
)

__all__ = [
    "KINDS", "Campaign", "Cores", "Fault", "Replay", "Result", "Row", "Trial", "accuracy", "by_bit",
    "by_kind", "by_part", "curve", "faulty", "inject", "read", "report", "run", "run_trials",
    "wilson", "worst", "write",
]  # fmt: skip
