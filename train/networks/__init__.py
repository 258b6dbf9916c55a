"""The networks that a configuration can name."""

from __future__ import annotations

from collections.abc import Callable

from spikeport.train.model import SpikingNet
from spikeport.train.networks.recurrent import recurrent
from spikeport.train.networks.sew import sew_resnet18, sew_resnet19
from spikeport.train.networks.small import conv, dense
from spikeport.train.networks.vgg import vgg9, vgg11

MODELS: dict[str, Callable[..., SpikingNet]] = {
    "dense": dense,
    "conv": conv,
    "vgg9": vgg9,
    "vgg11": vgg11,
    "sew_resnet18": sew_resnet18,
    "sew_resnet19": sew_resnet19,
    "recurrent": recurrent,
}
