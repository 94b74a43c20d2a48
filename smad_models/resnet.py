"""The face backbone: ResNet-18 up to its pooled 512 features.

Layers carry the names that every published ImageNet file uses (`conv1`, `layer1.0.bn2`, ...), so such a file loads as
it is; its 512 -> 1000 classifier is not part of this backbone.

He et al., Deep residual learning for image recognition, CVPR 2016, table 1 (18 layers).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

FEATURES = 512


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is a 1x1 convolution where width or resolution change."""

    def __init__(self, width_in: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        branch = torch.relu_(self.bn1(self.conv1(x)))  # (N, width, H / stride, W / stride)
        branch = self.bn2(self.conv2(branch))  # (N, width, H / stride, W / stride)
        return torch.relu_(branch + self.downsample(x))


def _stage(width_in: int, width: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(Block(width_in, width, stride=stride), Block(width, width, stride=1))


class ResNet18(nn.Module):
    """Pictures to features, randomly initialised (He, normal, fan out) until weights are loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, stride=1)
        self.layer2 = _stage(64, 128, stride=2)
        self.layer3 = _stage(128, 256, stride=2)
        self.layer4 = _stage(256, FEATURES, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 3, H, W)`` float to ``(N, 512)``; the comments are for H = W = 112."""
        x = torch.relu_(self.bn1(self.conv1(x)))  # (N, 64, 56, 56)
        x = self.maxpool(x)  # (N, 64, 28, 28)
        x = self.layer1(x)  # (N, 64, 28, 28)
        x = self.layer2(x)  # (N, 128, 14, 14)
        x = self.layer3(x)  # (N, 256, 7, 7)
        x = self.layer4(x)  # (N, 512, 4, 4)
        return x.mean(dim=(2, 3))  # (N, 512)


def calibrate_norms(backbone: ResNet18, pictures: Iterable[Tensor]) -> None:
    """Set the BatchNorm statistics to those of ``pictures`` (batches of ``(N, 3, H, W)``); the weights stay.

    Random weights come with the statistics of no picture at all: without this, features of a random backbone all but
    coincide.
    """
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    backbone.train()
    with torch.no_grad():
        for batch in pictures:
            backbone(batch)
    for norm in norms:
        norm.momentum = 0.1
    backbone.eval()
