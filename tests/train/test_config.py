"""Configurations: the packaged one, overrides, round trip, and one sentence per mistake."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from spikeport.sim.chip import TARGETS
from spikeport.sim.surrogate import SURROGATES
from spikeport.train.config import (
    DIGITS,
    Config,
    DataConfig,
    EncodeConfig,
    ModelConfig,
    QuantiseConfig,
    TrainConfig,
    load,
    loads,
    override,
    to_toml,
)
from spikeport.train.data import LOADERS
from spikeport.train.encode import ENCODERS
from spikeport.train.losses import LOSSES
from spikeport.train.methods.mpd_sgr import MpdSgr
from spikeport.train.model import READOUTS
from spikeport.train.networks import MODELS

SMALL = """
[data]
name = "mnist"
folder = 'C:\\data "x"'
[model]
name = "dense"
hidden = 33
[train]
epochs = 2
lr = 1
seed = 7
device = "cpu"
[quantise]
target = "loihi2"
"""


def test_reads_values_and_fills_defaults() -> None:
    config = loads(SMALL, "small.toml")
    assert (config.data.name, config.data.folder) == ("mnist", 'C:\\data "x"')
    assert (config.model.hidden, config.model.channels) == (33, (12, 24))
    assert (config.train.lr, config.train.seed, config.train.shift) == (1.0, 7, 0.0)
    assert (config.encode.steps, config.quantise.target) == (8, "loihi2")
    assert config.methods.active() == {}
    with pytest.raises(ValidationError):
        config.train.lr = 3.0


def test_a_method_is_there_when_its_table_is() -> None:
    text = SMALL.replace("[quantise]", '[methods.mpd_sgr]\nstats = "hinge"\n[quantise]')
    config = loads(text, "small.toml")
    assert config.methods.active() == {"mpd_sgr": MpdSgr(stats="hinge")}
    assert loads(to_toml(config), "again") == config
    plain = loads(SMALL, "small.toml")
    assert override(plain, ["methods.mpd_sgr={}"]).methods.mpd_sgr == MpdSgr()
    stronger = override(config, ["methods.mpd_sgr.eta=2"]).methods.mpd_sgr
    assert stronger == MpdSgr(stats="hinge", eta=2.0)


def test_toml_round_trip_with_every_key_written() -> None:
    config = loads(SMALL, "small.toml")
    text = to_toml(config)
    assert loads(text, "again") == config
    assert "channels = [12, 24]" in text
    assert "detach_reset = true" in text


@given(folder=st.text(st.characters(exclude_categories=["Cs"])), lr=st.floats(1e-300, 10))
def test_toml_round_trip_of_any_text_and_number(folder: str, lr: float) -> None:
    config = loads(SMALL, "small.toml")
    changed = config.model_copy(
        update={
            "data": config.data.model_copy(update={"folder": folder}),
            "train": config.train.model_copy(update={"lr": lr}),
        }
    )
    assert loads(to_toml(changed), "again") == changed


def test_packaged_digits_config_is_the_issue_s_net() -> None:
    config = load(DIGITS)
    assert (config.data.name, config.model.name, config.encode.steps) == ("digits", "conv", 8)
    assert (config.train.device, config.model.readout) == ("cpu", "last_v")


def test_overrides_are_toml_or_plain_text() -> None:
    settings = ["train.lr=0.5", "model.name=conv", "model.channels=[3, 4]", "data.folder=/a b"]
    config = override(loads(SMALL, "small.toml"), settings)
    assert (config.train.lr, config.model.name, config.model.channels) == (0.5, "conv", (3, 4))
    assert config.data.folder == "/a b"
    assert config.train.epochs == 2


@pytest.mark.parametrize(
    ("section", "key", "registry"),
    [
        (DataConfig, "name", LOADERS),
        (EncodeConfig, "name", ENCODERS),
        (ModelConfig, "name", MODELS),
        (ModelConfig, "surrogate", SURROGATES),
        (ModelConfig, "readout", READOUTS),
        (TrainConfig, "loss", LOSSES),
        (QuantiseConfig, "target", TARGETS),
    ],
)
def test_choices_are_the_registries(section: type, key: str, registry: object) -> None:
    choices = get_args(section.model_fields[key].annotation)  # type: ignore[attr-defined]
    assert set(choices) == set(registry)  # type: ignore[call-overload]


def changed(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            changed("epochs = 2", "epoch = 2\nepochs = 2"),
            "f.toml: unknown key 'train.epoch'; did you mean 'epochs' in [train]?",
        ),
        (
            changed("[quantise]", "[quantize]"),
            "f.toml: unknown key 'quantize'; did you mean 'quantise'?",
        ),
        (
            SMALL + "[modle]\n",
            "f.toml: unknown key 'modle'; did you mean 'model'?",
        ),
        (changed("seed = 7", ""), "f.toml: train.seed is missing; it has no default"),
        (
            changed("epochs = 2", "epochs = 0"),
            "f.toml: train.epochs is 0; it should be greater than or equal to 1",
        ),
        (
            changed("epochs = 2", "epochs = 2.5"),
            "f.toml: train.epochs is 2.5; it should be a valid integer",
        ),
        (
            changed("lr = 1", 'lr = "1"'),
            "f.toml: train.lr is '1'; it should be a valid number",
        ),
        (
            changed("lr = 1", "lr = nan"),
            "f.toml: train.lr is nan; it should be a finite number",
        ),
        (
            changed("seed = 7", "seed = true"),
            "f.toml: train.seed is True; it should be a valid integer",
        ),
        (
            changed('device = "cpu"', 'device = "tpu"'),
            "f.toml: train.device is 'tpu'; it should be 'cpu' or 'cuda'",
        ),
        (
            changed("hidden = 33", "channels = [3, 0]"),
            "f.toml: model.channels is [3, 0]; both must be at least 1",
        ),
        (
            changed("hidden = 33", 'reset = "subtract"'),
            "f.toml: model.reset is 'subtract', but target 'loihi2' resets to zero and would "
            'spike differently; train with reset = "zero"',
        ),
        (
            changed("hidden = 33", 'reset = "subtract"').replace("loihi2", "lava"),
            "f.toml: model.reset is 'subtract', but training on the chip's integers knows neurons "
            'that reset to zero only; train with reset = "zero", or compile a model of your own',
        ),
        (
            changed("loihi2", "loihi1"),
            "f.toml: encode.name is 'direct', but spikes of target 'loihi1' carry no values; use "
            "poisson for images or bits for events, or another target",
        ),
        (
            changed("lr = 1", "lr = = 1"),
            "f.toml: no valid TOML: Invalid value (at line 10, column 6)",
        ),
    ],
)
def test_every_mistake_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (compared whole below)
        loads(text, "f.toml")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.epochs", "--set 'train.epochs': write it as section.key=value"),
        ("epochs=3", "--set 'epochs=3': write it as section.key=value"),
        ("trian.epochs=3", "--set 'trian.epochs=3': unknown key 'trian'; did you mean 'train'?"),
        ("train.lr=-1", "--set: train.lr is -1; it should be greater than 0"),
        ("train.shifft=1", "--set: unknown key 'train.shifft'; did you mean 'shift' in [train]?"),
        (
            "methods.mpd_sgr.etta=1",
            "--set: unknown key 'methods.mpd_sgr.etta'; did you mean 'eta' in [methods.mpd_sgr]?",
        ),
        ("train.eta=1", "--set: unknown key 'train.eta'; methods.mpd_sgr.eta replaces it"),
        (
            "train.stats=theory",
            "--set: unknown key 'train.stats'; methods.mpd_sgr.stats replaces it",
        ),
        (
            "quantise.learn_scale=true",
            "--set: unknown key 'quantise.learn_scale'; quantise.learn replaces it",
        ),
        ("methods.dsd.x=1", "--set: unknown key 'methods.dsd.x'; [methods.dsd] has no keys"),
        (
            "methods.chip_margn={}",
            "--set: unknown key 'methods.chip_margn'; did you mean 'chip_margin' in [methods]?",
        ),
        (
            "methods.mpd_sgr.eta=-1",
            "--set: methods.mpd_sgr.eta is -1; it should be greater than or equal to 0",
        ),
        ("train.lr.x=1", "--set 'train.lr.x=1': write it as section.key=value"),
        ("train=1", "--set 'train=1': write it as section.key=value"),
        ("model.channels=[1]", "--set: model.channels.1 is missing; it has no default"),
    ],
)
def test_override_mistakes(setting: str, message: str) -> None:
    config = loads(SMALL, "small.toml")
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        override(config, [setting])
    assert str(caught.value) == message


def test_an_override_of_a_key_of_a_number() -> None:
    with pytest.raises(ValueError, match=r"eta=1': mpd_sgr is 3, which has no keys$"):
        override(loads(SMALL, "s"), ["methods.mpd_sgr=3", "methods.mpd_sgr.eta=1"])


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no\.toml: cannot read the configuration \(No such file"):
        load(tmp_path / "no.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(
        ValueError, match=r"binary\.toml: the file is not UTF-8 text, so it is no T"
    ):
        load(tmp_path / "binary.toml")


def test_config_is_what_its_text_says_on_disk(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(to_toml(loads(SMALL, "x")), encoding="utf-8")
    assert isinstance(load(tmp_path / "c.toml"), Config)
