"""What a training run is: a TOML file, checked into frozen values.

Anything unknown, missing or out of range is one sentence naming file, key, value and what is
allowed. Device, seed and target have no defaults, because each changes results.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from spikeport.sim.chip import TARGETS
from spikeport.train.encode import source
from spikeport.train.methods import Methods
from spikeport.train.methods.base import Section

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPLACED = {
    **{f"train.{key}": f"methods.mpd_sgr.{key}" for key in ("eta", "gamma", "stats")},
    **dict.fromkeys(("quantise.learn_scale", "quantise.learn_threshold"), "quantise.learn"),
}
"""Keys of older configurations: what says it now."""
DIGITS = Path(__file__).parent / "configs" / "digits.toml"
"""The packaged configuration that `make demo` trains."""


class DataConfig(Section):
    """folder: where the files of `name` are; none for digits, which come with scikit-learn.
    train_images, test_images: sizes of fixed stratified subsets; all without. downsample, for
    events: side of the square of pixels that are summed into one. size, for events: side of the
    square that frames are then cut or padded to; their own sides without."""

    name: Literal[
        "digits", "mnist", "fashion_mnist", "cifar10", "cifar100",
        "nmnist", "nmnist_small", "dvs_gesture", "shd", "braille",
    ]  # fmt: skip
    folder: str | None = None
    validation_share: float = Field(default=0.1, gt=0, lt=1)
    train_images: int | None = Field(default=None, ge=1)
    test_images: int | None = Field(default=None, ge=1)
    downsample: int = Field(default=1, ge=1, le=1024)
    size: int | None = Field(default=None, ge=1, le=1024)


class EncodeConfig(Section):
    """How a sample becomes `steps` chip steps: images by direct or poisson, events, which are cut
    into `steps` time bins, by counts or bits. payload_bits: of counts, larger ones are clipped;
    the smaller the largest count, the finer the thresholds that no input can overflow."""

    name: Literal["direct", "poisson", "counts", "bits"] = "direct"
    steps: int = Field(default=8, ge=1, le=1024)
    payload_bits: int = Field(default=8, ge=1, le=8)


class ModelConfig(Section):
    """keep_v: share of the potential kept per step. v_th, surrogate_width: membrane units (a slope
    for the atan, sigmoid, superspike and gauss surrogates). channels: conv only. hidden: dense and
    recurrent only. width: share of the published numbers of channels, vgg and sew only. pool: what
    2x2 and global pools send on."""

    name: Literal["dense", "conv", "vgg9", "vgg11", "sew_resnet18", "sew_resnet19", "recurrent"]
    channels: tuple[int, int] = Field(default=(12, 24), strict=False)
    hidden: int = Field(default=128, ge=1, le=65536)
    width: float = Field(default=1.0, gt=0, le=64)
    pool: Literal["average", "sum"] = "average"
    keep_v: float = Field(default=0.5, ge=0, le=1)
    v_th: float = Field(default=1.0, ge=1e-3, le=1e6)
    surrogate: Literal["triangle", "rectangle", "atan", "sigmoid", "superspike", "gauss"] = (
        "triangle"
    )
    surrogate_width: float = Field(default=1.0, gt=0, le=1e6)
    detach_reset: bool = True
    reset: Literal["zero", "subtract"] = "zero"
    readout: Literal["count", "last_v"] = "last_v"

    @model_validator(mode="after")
    def _positive_channels(self) -> ModelConfig:
        if min(self.channels) < 1:
            raise ValueError(f"model.channels is {list(self.channels)}; both must be at least 1")
        return self


class TrainConfig(Section):
    """warm_up: share of a phase in which the learning rate rises to `lr`, from which a cosine leads
    to zero. clip: largest norm of the gradient, 0 for any. shift: largest random shift of a
    training image, pixels. rotate: largest random rotation, degrees. flip, crop: see
    `spikeport.train.augment.moved`. precision: of the float phase; the quantised one is always
    exact. devices: per node. keep: weights that a phase ends with, the
    last or those of the best validation accuracy. patience: epochs without a better one after which
    a phase stops, 0 for never. What training methods take stands in their own tables, see
    `Methods`."""

    epochs: int = Field(ge=1, le=100_000)
    batch: int = Field(default=64, ge=2, le=65536)
    lr: float = Field(gt=0, le=10)
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    optimiser: Literal["adamw", "sgd"] = "adamw"
    warm_up: float = Field(default=0.0, ge=0, lt=1)
    clip: float = Field(default=0.0, ge=0, le=1e6)
    seed: int = Field(ge=0, lt=2**31)
    device: Literal["cpu", "cuda"]
    devices: int = Field(default=1, ge=1, le=1024)
    nodes: int = Field(default=1, ge=1, le=1024)
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    keep: Literal["last", "best"] = "last"
    patience: int = Field(default=0, ge=0, le=100_000)
    loss: Literal["cross_entropy"] = "cross_entropy"
    shift: float = Field(default=0.0, ge=0, le=64)
    rotate: float = Field(default=0.0, ge=0, le=180)
    flip: bool = False
    crop: int = Field(default=0, ge=0, le=64)

    @model_validator(mode="after")
    def _precision_of_device(self) -> TrainConfig:
        if self.precision == "16-mixed" and self.device == "cpu":
            raise ValueError(
                'train.precision is "16-mixed", which processors do not compute in; write'
                ' "bf16-mixed" or "32", or train on device "cuda"'
            )
        return self


class QuantiseConfig(Section):
    """The phase on the chip's grids. weight_bits: sign included, stored in 8-bit even mantissas.
    learn: what every layer learns beside weights and bias, see `spikeport.train.scales`.
    start_images: training images on which the first scales are chosen, see
    `spikeport.train.start`; 0: the largest that hold every weight.
    netx_bias: keep biases whole in synaptic units, as NetX files hold them; finer without."""

    target: Literal["loihi", "loihi1", "loihi2", "lava"]
    epochs: int = Field(default=5, ge=0, le=100_000)
    lr: float = Field(default=1e-3, gt=0, le=10)
    weight_bits: int = Field(default=8, ge=2, le=8)
    learn: Literal["scale", "threshold", "none"] = "scale"
    start_images: int = Field(default=64, ge=0, le=65536)
    netx_bias: bool = True


class Config(Section):
    """One training run."""

    data: DataConfig
    encode: EncodeConfig = EncodeConfig()
    model: ModelConfig
    train: TrainConfig
    methods: Methods = Methods()
    quantise: QuantiseConfig

    @model_validator(mode="after")
    def _runs_on_target(self) -> Config:
        reset, target = self.model.reset, self.quantise.target
        graded = source(self.encode.name, (1, 1, 1)).kind == "graded"
        if graded and not TARGETS[target].graded_bits:
            raise ValueError(
                f"encode.name is {self.encode.name!r}, but spikes of target {target!r} carry no "
                "values; use poisson for images or bits for events, or another target"
            )
        if reset not in TARGETS[target].resets:
            raise ValueError(
                f"model.reset is {reset!r}, but target {target!r} resets to zero and would spike "
                'differently; train with reset = "zero"'
            )
        if reset != "zero":
            raise ValueError(
                f"model.reset is {reset!r}, but training on the chip's integers knows neurons that "
                'reset to zero only; train with reset = "zero", or compile a model of your own'
            )
        return self


def load(path: Path | str) -> Config:
    """Read and check a TOML file; ValueError in one sentence if it is missing or wrong."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: the file is not UTF-8 text, so it is no TOML") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot read the configuration ({error.strerror})") from error
    return loads(text, str(path))


def loads(text: str, where: str) -> Config:
    """Check TOML `text`; `where` names it in errors."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{where}: no valid TOML: {error}") from error
    return _validate(tree, where)


def override(config: Config, settings: Iterable[str]) -> Config:
    """`config` with "section.key=value" settings applied, for methods "methods.NAME.key=value"; a
    value is TOML, or else plain text. A method that is not there yet gets its defaults."""
    tree = config.model_dump(mode="json", exclude_none=True)
    for setting in settings:
        key, equals, text = setting.partition("=")
        *sections, name = key.strip().split(".")
        depth = 2 if sections[:1] == ["methods"] else 1
        if not (equals and name and all(sections)) or len(sections) not in (1, depth):
            raise ValueError(f"--set {setting!r}: write it as section.key=value")
        if sections[0] not in Config.model_fields:
            raise ValueError(f"--set {setting!r}: {_unknown(sections[0], Config)}")
        table = tree
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise ValueError(f"--set {setting!r}: {section} is {table!r}, which has no keys")
        table[name] = _value(text.strip())
    return _validate(tree, "--set")


def _value(text: str) -> Any:
    try:
        tree = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return tree["value"] if tree.keys() == {"value"} else text


def to_toml(config: Config) -> str:
    """The resolved configuration, every key written out; `loads` gives an equal one back."""
    lines: list[str] = []
    for section, values in config.model_dump(mode="json", exclude_none=True).items():
        inner = {k: v for k, v in values.items() if isinstance(v, dict)}
        lines += [
            f"[{section}]",
            *(f"{k} = {_toml(v)}" for k, v in values.items() if k not in inner),
            "",
        ]
        for name, table in inner.items():
            lines += [f"[{section}.{name}]", *(f"{k} = {_toml(v)}" for k, v in table.items()), ""]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    # A JSON scalar or list of numbers is the same text in TOML, DEL apart.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _validate(tree: dict[str, Any], where: str) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        # A misspelt key also makes the right one missing: the spelling is what to tell.
        worst = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        raise ValueError(f"{where}: {_sentence(worst)}") from error


def _sentence(problem: Any) -> str:
    """One pydantic error in our words."""
    place = [str(part) for part in problem["loc"]]
    key = ".".join(place)
    if problem["type"] == "extra_forbidden":
        return _unknown(key, _section_at(place[:-1]))
    if problem["type"] == "missing":
        return f"{key} is missing; it has no default"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    allowed = problem["msg"].removeprefix("Input ")
    return f"{key} is {problem['input']!r}; it {allowed}"


def _section_at(place: list[str]) -> Any:
    """The section that the keys `place` lead to."""
    owner: Any = Config
    for key in place:
        kinds = (owner.model_fields[key].annotation, *get_args(owner.model_fields[key].annotation))
        owner = next(k for k in kinds if isinstance(k, type) and issubclass(k, Section))
    return owner


def _unknown(key: str, owner: Any) -> str:
    if key in REPLACED:
        return f"unknown key {key!r}; {REPLACED[key]} replaces it"
    prefix, _, name = key.rpartition(".")
    names = sorted(owner.model_fields)
    if not names:
        return f"unknown key {key!r}; [{prefix}] has no keys"
    near = difflib.get_close_matches(name, names, n=3) or names
    return f"unknown key {key!r}; did you mean {' or '.join(repr(n) for n in near)}" + (
        f" in [{prefix}]?" if prefix else "?"
    )
