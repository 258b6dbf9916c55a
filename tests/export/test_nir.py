"""snnTorch -> NIR -> FloatNet loses nothing, and what cannot be said is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
import snntorch
import torch
from torch import Tensor, nn

from spikeport.export.nir_read import read
from spikeport.export.nir_write import write
from spikeport.sim import floating
from spikeport.sim.net import Input
from spikeport.sim.synapse import FloatConv2d, FloatDense
from spikeport.train.neuron import Integrator, Lif
from spikeport.train.norm import TdBatchNorm2d

GRADED = Input(shape=(2, 8, 8), kind="graded", payload_bits=8, scale=255.0)


def leaky(keep: Any, v_th: Any = 1.0, **rest: Any) -> snntorch.Leaky:
    return snntorch.Leaky(keep, threshold=v_th, reset_mechanism="zero", **rest)


def conv_module(seed: int) -> nn.Sequential:
    """Grouped oblong kernels, padding, folding, an amplitude, vectors, delays of both kinds."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(2, 4, (3, 5), padding=(1, 2), groups=2),
        nn.BatchNorm2d(4),
        leaky(0.7, torch.rand(4, 8, 8) * 0.4 + 0.1, graded_spikes_factor=0.5),
        nn.Dropout(0.5),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 2, padding="same", bias=False),
        TdBatchNorm2d(6, v_th=0.6),
        nn.Identity(),
        leaky(1.0, 0.3, reset_delay=False),
        nn.AvgPool2d((2, 1), stride=(2, 1)),
        nn.Flatten(),
        nn.Linear(48, 11, bias=False),
        snntorch.Synaptic(0.3, 0.8, 0.4, reset_mechanism="zero", reset_delay=False),
        nn.Linear(11, 5),
        leaky(torch.rand(5), 0.2),
    ).double()
    for norm in (module[1], module[6]):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
        norm.bias.data.normal_(0.2, 0.2)
    return module.eval()


@torch.no_grad()
def torch_spikes(module: nn.Sequential, x: Tensor) -> dict[str, Any]:
    """The plain loop over time, states passed by hand."""
    states: dict[str, Any] = {}
    record: dict[str, list[Tensor]] = {}
    for now in x:
        s = now
        for name, layer in module.named_children():
            if isinstance(layer, (snntorch.Leaky, snntorch.Synaptic)):
                s, *states[name] = layer(s, *states.get(name, ()))
                s = s.double()
                record.setdefault(name, []).append((s != 0).flatten(1))
            else:
                s = layer(s.unsqueeze(0))[0] if isinstance(layer, TdBatchNorm2d) else layer(s)
    return {name: torch.stack(spikes).numpy() for name, spikes in record.items()}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("seed", range(6))
def test_the_file_fires_as_the_module_does(tmp_path: Path, seed: int) -> None:
    module = conv_module(seed)
    write(module, tmp_path / "net.nir", input=GRADED, steps=6, dt_s=2e-3)
    net = read(tmp_path / "net.nir")
    assert (net.input, net.steps, net.readout.kind) == (GRADED, 6, "count")
    x = torch.randint(0, 256, (6, 5, 2, 8, 8)).double() / 255
    expected, found = torch_spikes(module, x), floating.run(net, x.numpy())
    assert [p.name for p in net.populations] == list(expected)
    for name, spikes in expected.items():
        assert np.array_equal(spikes, found[name].spikes), name
    assert sum(s.sum() for s in expected.values()) > 100
    first = net.projections[0].synapse
    assert isinstance(first, FloatConv2d)
    assert first.w.shape == (4, 1, 3, 5)  # the zeros that nir needs are gone again


def test_values_survive_bit_for_bit(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 4), leaky(0.9, 1.1), nn.Linear(4, 2), Integrator(scale=7.5))
    write(module, tmp_path / "n.nir", input=Input(shape=(3,)), steps=4, dt_s=1e-3, readout="last_v")
    net = read(tmp_path / "n.nir")
    hidden, last = net.populations
    w = net.projections[0].synapse.w
    assert np.array_equal(w, module[0].weight.detach().double().numpy())
    assert np.array_equal(hidden.bias, module[0].bias.detach().double().numpy())
    assert hidden.keep_v == float(module[1].beta)  # not 1 - dt / tau, which rounds
    assert hidden.keep_v.shape == hidden.v_th.shape == ()
    assert (last.scale, last.v_th, net.readout.kind) == (7.5, floating.NEVER, "last_v")


def test_a_reader_that_ignores_our_key_gets_a_legal_graph(tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2), leaky(0.75, 0.5), nn.Flatten(), nn.Linear(256, 3),
        leaky(1.0, 2.0),
    )  # fmt: skip
    write(module, tmp_path / "net.nir", input=GRADED, steps=4, dt_s=1e-3)
    graph = nir.read(tmp_path / "net.nir")
    lif, last = graph.nodes["1"], graph.nodes["4"]
    assert tuple(graph.nodes["input"].input_type["input"]) == (2, 8, 8)  # no batch dimension
    assert lif.v_threshold.shape == lif.v_reset.shape == lif.tau.shape == (4, 8, 8)
    assert lif.tau == pytest.approx(4e-3)
    assert lif.r * 1e-3 / lif.tau == pytest.approx(1.0)
    assert (type(last).__name__, last.v_threshold.tolist()) == ("IF", [2.0] * 3)
    assert graph.nodes["0"].padding.tolist() == [1, 1]
    assert json.loads(graph.metadata["spikeport"])["dt_s"] == 1e-3
    for node in graph.nodes.values():
        node.metadata.clear()
    graph.metadata.clear()
    nir.write(tmp_path / "bare.nir", graph)
    bare = read(tmp_path / "bare.nir", dt_s=1e-3, steps=4, input=GRADED)
    x = np.random.default_rng(0).random((4, 3, 2, 8, 8))
    ours = read(tmp_path / "net.nir")
    for name in ("1", "4"):
        assert np.array_equal(
            floating.run(bare, x)[name].spikes, floating.run(ours, x)[name].spikes
        )


def test_nan_weights_are_named(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 2), leaky(0.5))
    module[0].weight.data[0, 1] = float("nan")
    with pytest.raises(ValueError, match=r"^layer '0' \(Linear\): dense weight holds NaN or infin"):
        write(module, tmp_path / "n.nir", input=Input(shape=(3,)), steps=3, dt_s=1e-3)


def test_subtraction_without_leak_is_exact(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 9), snntorch.Leaky(1.0, threshold=0.4)).double()
    write(module, tmp_path / "n.nir", input=Input(shape=(6,)), steps=9, dt_s=1e-3)
    net = read(tmp_path / "n.nir")
    assert net.populations[0].reset == "subtract"
    x = torch.randint(0, 2, (9, 20, 6)).double()
    assert np.array_equal(torch_spikes(module, x)["1"], floating.run(net, x.numpy())["1"].spikes)


def test_shared_neurons_and_missing_ones_are_refused(tmp_path: Path) -> None:
    lif = Lif(0.5)
    shared = nn.Sequential(nn.Linear(3, 3), lif, nn.Linear(3, 3), lif)
    with pytest.raises(ValueError, match=r"^layer '3' .Lif.: it is the same object as layer '1'"):
        write(shared, tmp_path / "n.nir", input=Input(shape=(3,)), steps=3, dt_s=1e-3)
    with pytest.raises(ValueError, match=r"^the network ends with layer '2', which has no neurons"):
        write(shared[:3], tmp_path / "n.nir", input=Input(shape=(3,)), steps=3, dt_s=1e-3)


# Files of others.


def foreign(path: Path, *nodes: nir.NIRNode) -> Path:
    nir.write(path, nir.NIRGraph.from_list(*nodes))
    return path


def vector(*values: float) -> Any:
    return np.array(values, dtype=float)


def test_cubalif_of_others(tmp_path: Path) -> None:
    w = np.arange(6.0).reshape(2, 3)
    path = foreign(
        tmp_path / "cuba.nir",
        nir.Linear(weight=w),
        nir.CubaLIF(
            tau_syn=vector(0.004, 0.002), tau_mem=vector(0.01, 0.01), r=vector(2.0, 4.0),
            v_leak=vector(0.5, 0.5), v_threshold=vector(0.3, 0.3), w_in=vector(3.0, 5.0),
        ),
    )  # fmt: skip
    net = read(path, dt_s=1e-3, steps=5)
    p = net.populations[0]
    assert p.keep_u == pytest.approx([0.75, 0.5])
    assert p.keep_v == pytest.approx(0.9)
    assert p.bias == pytest.approx(0.05)
    assert p.v_th == 0.3
    gain = np.array([2 * 0.1 * 3 * 0.25, 4 * 0.1 * 5 * 0.5])
    assert net.projections[0].synapse.w == pytest.approx(w * gain[:, None])


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    with pytest.raises(FileNotFoundError, match=r"net\.nir: there is no such file; give the path"):
        read(path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(
        ValueError, match=r"cannot be read, it is no intact HDF5 file; write it aga"
    ):
        read(path)
    module = nn.Sequential(nn.Linear(300, 20), leaky(0.5))
    write(module, path, input=Input(shape=(300,)), steps=3, dt_s=1e-3)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cannot be read, it is truncated; write it again$"):
        read(path)
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        del file["node/nodes/1/tau"]
    with pytest.raises(ValueError, match=r"node '1' \(LIF\) lacks tau; write the file again$"):
        read(path)
    with h5py.File(path, "a") as file:
        del file["node/edges"]
    with pytest.raises(ValueError, match=r"the graph has no edges; write the file again$"):
        read(path)


@pytest.mark.parametrize(
    ("put", "says"),
    [
        ({"node/nodes/1": h5py.SoftLink("/node")}, "the group '/node/nodes/1' lies in itself"),
        ({"node/nodes/1/tau": h5py.SoftLink("/nowhere")}, r"node '1' \(LIF\) lacks tau; write the"),
        ({"node/nodes/1/tau": np.dtype("f8")}, r"node '1' \(LIF\) lacks tau; write the file again"),
        ({"node/nodes/1/type": 3.0}, "node '1' has type none, which is not supported"),
        ({"node/nodes/1/type": np.array([])}, "node '1' has type none, which is not supported"),
        ({"node/nodes/1/type": np.zeros((), "i4,f4")}, "node '1' has type none, which is not"),
        ({"node/nodes/1/metadata/spikeport": "[" * 5000}, r"of '1' are damaged \(all\)"),
        ({"node/metadata/spikeport": '{"dt_s": 1' + 400 * "0" + "}"}, r"are damaged \(dt_s\)"),
        ({"node/nodes/0/metadata/spikeport": '{"groups": 0}'}, r"damaged \(groups\)"),
        ({"node/nodes/0/metadata/spikeport": '{"rim": [-1, 0]}'}, r"damaged \(rim\)"),
        ({"node/nodes/input/metadata/spikeport": '{"scale": null}'},
         r"node 'input' \(Input\): input scale is None; it must be a positive number"),
        ({"node/nodes/input/shape": [[3]]}, r"shape is \[\[3\]\]; needed are whole numbers"),
        ({"node/nodes/1/v_threshold": [1e300] * 2, "node/nodes/1/r": [1e-300] * 2,
          "node/nodes/1/metadata/spikeport": "{}", "node/nodes/1/type": "IF"},
         r"node '1' \(IF\): population '1': v_th holds NaN or infinity"),
        ({"node/metadata/spikeport": '{"dt_s": NaN}'}, r"of 'graph' are damaged \(dt_s\); export"),
    ],
)  # fmt: skip
def test_files_that_no_writer_writes(put: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    module = nn.Sequential(nn.Linear(3, 2), leaky(0.5))
    write(module, path, input=Input(shape=(3,)), steps=3, dt_s=1e-3)
    with h5py.File(path, "a") as file:
        for name, value in put.items():
            if name in file:
                del file[name]
            file[name] = value
    with pytest.raises(ValueError, match=says):
        read(path)


def test_an_edited_time_constant_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    write(
        nn.Sequential(nn.Linear(3, 2), leaky(0.5)),
        path,
        input=Input(shape=(3,)),
        steps=3,
        dt_s=1e-3,
    )
    with h5py.File(path, "a") as file:
        file["node/nodes/1/tau"][...] *= 2
    with pytest.raises(ValueError, match=r"time constants and the decays in the metadata disagree"):
        read(path)


# What other exporters lose; these fail loudly when upstream changes.


def test_snntorch_loses_the_reset_and_we_do_not() -> None:
    from snntorch.export_nir import _extract_snntorch_module

    one = torch.tensor([0.5])
    node = _extract_snntorch_module(snntorch.Leaky(one, one, reset_mechanism="subtract"))
    assert node.v_reset.tolist() == [0]


def test_snntorch_cannot_say_a_scalar_threshold_beside_a_vector_decay() -> None:
    from snntorch.export_nir import _extract_snntorch_module

    with pytest.raises(AssertionError, match=r"^All parameters must have the same shape$"):
        _extract_snntorch_module(snntorch.Leaky(torch.tensor([0.5])))


def test_snntorch_prints_unknown_layers(capsys: pytest.CaptureFixture[str]) -> None:
    from snntorch.export_nir import _extract_snntorch_module

    assert _extract_snntorch_module(nn.MaxPool2d(2)) is None
    assert capsys.readouterr().out == "[WARNING] module not implemented: MaxPool2d\n"


def test_snntorch_drops_the_padding_of_pools() -> None:
    from snntorch.export_nir import _extract_snntorch_module

    assert _extract_snntorch_module(nn.AvgPool2d(3, padding=1)).padding == (0, 0)


def test_nir_gets_shapes_of_groups_wrong() -> None:
    with pytest.raises(ValueError, match=r"type mismatch"):
        nir.NIRGraph.from_list(
            nir.Input(input_type={"input": np.array([2, 4, 4])}),
            nir.Conv2d((4, 4), np.ones((2, 1, 3, 3)), 1, 0, 1, 2, np.zeros(2)),
        )


def test_files_of_snntorch_are_read(tmp_path: Path) -> None:
    from snntorch.export_nir import export_to_nir

    torch.manual_seed(1)
    keep, v_th = torch.full((4,), 0.75), torch.full((4,), 0.5)
    module = nn.Sequential(nn.Linear(3, 4), snntorch.Leaky(keep, threshold=v_th, init_hidden=True))
    nir.write(tmp_path / "s.nir", export_to_nir(module, torch.rand(3)))
    net = read(tmp_path / "s.nir", dt_s=1e-4, steps=5)
    synapse = net.projections[0].synapse
    assert isinstance(synapse, FloatDense)
    assert synapse.w == pytest.approx(module[0].weight.detach().numpy(), rel=1e-6)
    assert net.populations[0].keep_v == pytest.approx(0.75, rel=1e-6)


def test_files_of_ours_keep_their_decays_and_groups(tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    conv = nn.Conv2d(2, 4, (1, 3), groups=2, bias=False)
    source = Input(shape=(2, 5, 5))
    write(nn.Sequential(conv, leaky(0.5)), path, input=source, steps=3, dt_s=1e-3)
    with pytest.raises(
        ValueError,
        match=r"node '1' \(LIF\): the file records its decays, the rule 'exact' would change them;"
        r" leave it out$",
    ):
        read(path, rule="exact")
    with h5py.File(path, "a") as file:
        file["node/nodes/0/weight"][...] = 1.0
    with pytest.raises(
        ValueError,
        match=r"node '0' \(Conv2d\): weights between its groups are not zero; the file was edited$",
    ):
        read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "values",
            r"^graph/nodes/0/weight: nir read back other values than were written; file not",
        ),
        ("keys", r"^graph/nodes/0: nir read back \['bias', .*\] instead of \['metadata', .*\]$"),
    ],
)
def test_a_file_that_does_not_come_back_as_it_was_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, message: str
) -> None:
    def changed(file: Any) -> Any:
        graph = whole(file)
        node = graph.nodes["0"]
        if change == "values":
            node.weight[0, 0] += 1
        else:
            graph.nodes["0"] = nir.Affine(node.weight, np.zeros(2))
        return graph

    whole = nir.read
    monkeypatch.setattr(nir, "read", changed)
    module = nn.Sequential(nn.Linear(3, 2, bias=False), leaky(0.5))
    with pytest.raises(RuntimeError, match=message):
        write(module, tmp_path / "net.nir", input=Input(shape=(3,)), steps=3, dt_s=1e-3)
    assert list(tmp_path.iterdir()) == []
