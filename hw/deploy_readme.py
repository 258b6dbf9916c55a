"""The README of a deployment folder."""

from __future__ import annotations

from spikeport.hw.early import HELD
from spikeport.hw.lava_record import alone
from spikeport.hw.target import Target
from spikeport.sim.net import FixedNet

README = """\
Network {digest} for {board} ({chips} x {chip})

Run it:   python run.py            (python run.py --help lists the options)
{beside_board}
It needs Python 3.10 with `pip install lava-nc==0.10.0 lava-dl==0.6.0 setuptools`, and Linux. Where
Lava-Loihi is installed, Intel's extension for members of its research community, it runs on a board
(--host slurm --partition NAME, or --host ethernet --address HOST; both with --generation), else
the same graph runs on Lava's CPU simulator, and it says so. It compares every spike of every
population (on a board of the readout, or the last that fires where it never does, unless
--populations says more) with the expected ones, prints the differences, writes result.json and
exits with 0 if there are none, 1 if there are some, 2 if it could not run, 130 after Ctrl-C. Lava
runs in a process group of its own with a time-out, of which nothing stays behind. What concerns
boards was written without one and has never run.

{netx}
network.json     steps T of a sample, and every population's name, shape (C, H, W) or (n,), and
                 depth d
vectors.npz      input `x` [T, B, ...] and, for every population P, the expected `spikes.P`
                 [T, B, n], n in C order of its shape; a board must give them back without one
                 difference. `logits` [B, n], where the readout reads potentials: its last ones, or
                 their sums over the sample ("readout" in network.json says which); compared on the
                 simulator only
network.txt      the network in words
placement.txt    what the fullest core of each layer takes of every limit, in per cent, and cores
placement.json   for every core: ranges [first, end) of its neurons along each axis of the shape
{cost}\
run.py           checks the folder, then compare.py starts Lava, compares, tells; options.py is
                 its command line, play.py the child in which Lava runs
graph.py         the network as Lava processes; board.py what differs on a board; processes/ the
                 adapters between Python and chip, and the recorder; lava_axes.py orders axes as
                 Lava does, the other lava_*.py keep it in check; files.py writes the result,
                 interrupt.py hears Ctrl-C
SHA256SUMS       check the folder with `sha256sum -c SHA256SUMS`; run.py does so first

The digest {full}
is that of all integers of the network; bundles and results that carry the same one belong to it.

{timing}{odd_steps}"""
IN_A_ROW = """\
To run it otherwise: play the samples of `x` one after the other, T steps each, from a source that
is connected directly to the network; output step t of sample n leaves population P, at depth d, at
chip step n * T + t + d + 1, counted from 1. u and v of P become 0 at chip step n * T + d + 1.
"""
ONE_BY_ONE = """\
To run it otherwise: play each sample of `x`, T steps, from a source that is connected directly to
the network, and start the network anew for every sample: its delays would carry spikes of one
sample into the next. Let all potentials start at {held}, so that no bias fires before a
population's window; its reset at chip step d + 1, d being its depth, puts them to 0. Output step
t leaves it at chip step t + d + 1, counted from 1.
"""
NETX = """\
network.net      the network for lava-dl 0.6: netx.hdf5.Network("network.net", **netx), with the
                 keyword arguments "netx" of network.json
"""
NO_NETX = """\
network.npz      all arrays of the network; "connections" in network.json says what they connect.
                 There is no NetX file, because {reason}.
"""


ODD_STEPS = """
On a board neurons are reset at powers of two steps only, says lava-dl's tutorial netx/mnist, and a
sample of this network has {steps}: a board may not run it so.
"""
COST = """\
cost.txt         what a sample of `x` costs on the chip, by a model and not measured: operations,
                 and energy and time between published sets of constants; cost.json the same
"""


def readme(
    net: FixedNet, target: Target, *, no_netx: str | None, cost: bool, words: str = ""
) -> str:
    """All that a reader of the folder must know. no_netx: why there is no NetX file. cost: whether
    there is a report on it. words: options of run.py beside the board."""
    whole = net.steps & (net.steps - 1) == 0 or (alone(net) and no_netx is not None)
    return README.format(
        digest=net.digest()[:12],
        full=net.digest(),
        board=target.name,
        chips=target.chips,
        chip=target.chip.name,
        netx=(NETX if no_netx is None else NO_NETX.format(reason=no_netx)).rstrip("\n"),
        cost=COST if cost else "",
        beside_board=f"On the board: python run.py {words}\n" if words else "",
        timing=ONE_BY_ONE.format(held=HELD) if alone(net) else IN_A_ROW,
        odd_steps="" if whole else ODD_STEPS.format(steps=net.steps),
    )
