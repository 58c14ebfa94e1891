"""Prototypes: what accepted and what rejected instances of a concept looked like, to judge new ones by.

What looks like past accepts rises, what looks like past rejects sinks:

    logit(score') = logit(score) + weight * (a - r) + bias

where a and r are the highest cosines of an instance's feature with an accepted and with a rejected prototype, -1..1
(0 where there is none of the kind). Features are those of ``Instance.feature``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sam3_core.errors import InvalidPrompt

Floats = NDArray[np.float32]

_SURE = 1e-6  # scores are taken for this far from 0 and 1
_MOST = 1000.0  # of weight and bias: float32 logits stay exact enough for ``floor``
_ROUNDING = 1e-5  # of a logit, per unit of what is added up


@dataclass(frozen=True, slots=True)
class Prototypes:
    """Hashable, so the vectors are bytes: float16, little-endian, rows of ``width`` numbers. Only their directions
    count.

    accepted: ``(A, width)``, rejected: ``(R, width)``; either may be empty. weight: 0..1000. bias: -1000..1000.

    Raises InvalidPrompt for bytes that are no such rows, and for numbers that are not finite or out of range.
    """

    width: int
    accepted: bytes = field(repr=False)
    rejected: bytes = field(repr=False)
    weight: float
    bias: float = 0.0

    def __post_init__(self) -> None:
        if self.width < 1 or any(len(rows) % (2 * self.width) for rows in (self.accepted, self.rejected)):
            raise InvalidPrompt(f"prototypes must be rows of {self.width} float16 numbers")
        if not (0 <= self.weight <= _MOST and math.isfinite(self.bias) and abs(self.bias) <= _MOST):
            raise InvalidPrompt(f"the weight of prototypes must lie in 0..{_MOST:g}, their bias in ±{_MOST:g}")
        if not all(np.isfinite(_rows(rows, self.width)).all() for rows in (self.accepted, self.rejected)):
            raise InvalidPrompt("prototypes must be finite numbers")

    @classmethod
    def of(cls, accepted: Floats, rejected: Floats, weight: float, bias: float = 0.0) -> Prototypes:
        """From ``(A, width)`` and ``(R, width)`` float32; rows are brought to length 1."""
        packed = [_unit(rows).astype("<f2").tobytes() for rows in (accepted, rejected)]
        return cls(int(accepted.shape[1]), packed[0], packed[1], weight, bias)

    def check_width(self, width: int) -> None:
        """Raises InvalidPrompt where features have another width than the prototypes."""
        if width != self.width:
            raise InvalidPrompt(f"prototypes of {self.width} numbers do not fit this model's {width}")

    def likeness(self, features: Floats) -> Floats:
        """a - r of each feature ``(n, width)``: ``(n,)`` float32, -2..2. Raises InvalidPrompt for another width."""
        self.check_width(features.shape[1])
        unit = _unit(features)
        near = [
            (unit @ _unit(rows).T).max(axis=1) if len(rows) else np.zeros(len(unit), np.float32)
            for rows in (_rows(self.accepted, self.width), _rows(self.rejected, self.width))
        ]
        return np.asarray(np.clip(near[0], -1, 1) - np.clip(near[1], -1, 1), dtype=np.float32)

    def rescored(self, scores: Floats, features: Floats) -> Floats:
        """The scores ``(n,)``, 0..1, in the light of the features ``(n, width)``: ``(n,)`` float32, 0..1."""
        return expit(logit(scores) + np.float32(self.weight) * self.likeness(features) + np.float32(self.bias))

    def unseen(self, scores: Floats) -> Floats:
        """The scores ``(n,)``, 0..1, of what is like no prototype, or nobody looked at: ``(n,)`` float32, 0..1."""
        return expit(logit(scores) + np.float32(self.bias))

    def floor(self, threshold: float) -> float:
        """A score, 0..1, under which nothing can reach the threshold, whatever it looks like."""
        if threshold <= _SURE:
            return 0.0
        most = self.weight * sum(map(bool, (self.accepted, self.rejected)))  # a kind that is missing moves nothing
        rounding = _ROUNDING * (20 + 2 * self.weight + abs(self.bias))
        least = logit(np.array([threshold], np.float32)) - np.float32(most + self.bias + rounding)
        floor = float(expit(least)[0])
        return floor if floor > 2 * _SURE else 0.0  # lower ones all count as one


def logit(scores: Floats) -> Floats:
    """Of ``(n,)`` scores 0..1, finite at both ends: ``(n,)`` float32."""
    sure = np.clip(scores.astype(np.float64), _SURE, 1 - _SURE)
    return np.asarray(np.log(sure) - np.log1p(-sure), dtype=np.float32)


def expit(values: Floats) -> Floats:
    """1 / (1 + exp(-v)) of ``(n,)``: ``(n,)`` float32, 0..1."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values.astype(np.float64), -40, 40))), dtype=np.float32)


def _rows(packed: bytes, width: int) -> Floats:
    return np.frombuffer(packed, dtype="<f2").reshape(-1, width).astype(np.float32)


def _unit(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), dtype=np.float32)
