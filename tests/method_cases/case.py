"""One method as the conformance suite sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raysl.encoder import EncoderConfig

CONVNET = EncoderConfig(width=8)
VIT = EncoderConfig(name="vit", width=8)
RESNET = EncoderConfig(name="resnet10t")


@dataclass(frozen=True, kw_only=True)
class Case:
    """config: fields that make the method small. changes: for every field of its Config other
    values, as {field: value} or {field: {field: value, what it needs: ...}}.
    shown_elsewhere: fields that no step can show, with the test file that does.

    encoders: that it must work with, the first in most tests; refuses: that it must refuse.
    channels: numbers of channels that it must work with; refuses_channels: that it must refuse.
    falls: by how much of its first value the loss falls in 30 steps on 16 images, at least.
    rate: learning rate of Adam in that test. falls_with: fields that it needs beside config.
    settles: steps before that first value: a queue starts with random rows, unlike any image.
    small_batch: None where a batch of 2 works; otherwise words of the sentence that refuses it.
    """

    changes: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    encoders: tuple[EncoderConfig, ...] = (CONVNET, RESNET, VIT)
    refuses: EncoderConfig | None = None
    channels: tuple[int, ...] = (1, 3)
    refuses_channels: tuple[int, ...] = ()
    falls: float = 0.1
    rate: float = 3e-3
    falls_with: Mapping[str, Any] = field(default_factory=dict)
    settles: int = 0
    shown_elsewhere: Mapping[str, str] = field(default_factory=dict)
    small_batch: str | None = None
