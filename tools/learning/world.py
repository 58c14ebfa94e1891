"""What the proof's pictures show: the demo's shapes, and among them crescents, which its checkpoint does not know.

Asked for a crescent by that word, the demo checkpoint says "not here", as it does to every word nobody taught it.
Asked for a "triangle" it finds half of them, among the triangles. Its vision encoder, which learning leaves as it is,
tells crescents apart: a logistic regression on the mean tokens under the masks has an area under the curve of 0.93.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam3_core.demo.scenes import Scene, render_scene
from sam3_core.masks import Mask

CRESCENT = "crescent"

_UNWANTED = {"square", "triangle"}  # no label means them
_REVIEWED, _UNSEEN = 1_700_000_000, 1_800_000_000  # far from each other and from the checkpoint's training


def crescent(_: np.random.Generator) -> NDArray[np.float64]:
    """A new moon's outline, see ``sam3_core.demo.scenes.Outline``."""
    angles = np.linspace(0.175 * np.pi, 1.825 * np.pi, 60)
    outer = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    inner = outer[::-1] * (0.55, 0.78) + (0.38, 0.0)
    points = np.concatenate([outer, inner])
    return np.asarray(points / np.linalg.norm(points, axis=1).max())


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A picture: the name of its file, the file, and what is there by shape."""

    name: str
    image: bytes
    truth: dict[str, tuple[Mask, ...]]


def reviewed(count: int) -> list[Sample]:
    """Pictures for reviewers, each with something to label: always the same first ones."""
    drawn = (_sample(f"reviewed-{n}.jpg", _REVIEWED + n) for n in itertools.count())
    return list(itertools.islice((one for one in drawn if one.truth.keys() - _UNWANTED), count))


def unseen(count: int) -> list[Sample]:
    """Pictures that nobody reviews, to measure on: always the same first ones."""
    return [_sample(f"unseen-{n}.jpg", _UNSEEN + n) for n in range(count)]


def scene(seed: int) -> Scene:
    """Three to six shapes, small pictures: all is quick, and the checkpoint sees 112 pixels a side anyway."""
    return render_scene(seed, objects=(3, 6), long_side=(320, 400), strange={CRESCENT: crescent})


def _sample(name: str, seed: int) -> Sample:
    drawn = scene(seed)
    shapes = sorted({item.shape for item in drawn.objects})
    masks = {
        shape: tuple(Mask.from_full(item.mask) for item in drawn.objects if item.shape == shape) for shape in shapes
    }
    return Sample(name, drawn.encode(), masks)
