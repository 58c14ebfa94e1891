"""Training scenes as arrays: rendered once, squashed to the model's square, changed a little each showing."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam3_core.demo.scenes import COLORS, SHAPES, Scene, render_scene

MAX_OBJECTS = 12
CROWDED_SHARE = 0.35  # of the scenes hold seven to twelve objects


@dataclass(frozen=True)
class SceneSet:
    """Scenes as arrays, index-aligned.

    images: ``(N, S, S, 3)`` uint8 RGB, S the model's image size.
    masks: ``(N, MAX_OBJECTS, M, M)`` uint8, share of each mask cell that is the object, 0..255.
    boxes: ``(N, MAX_OBJECTS, 4)`` float32 cxcywh in 0..1 of the visible mask.
    kinds: ``(N, MAX_OBJECTS, 2)`` int8, indices into COLORS and SHAPES; -1 where there is no object.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    kinds: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.images)


def squash(image: NDArray[np.uint8], size: int, *, sharp: bool) -> NDArray[np.uint8]:
    """``(H, W, 3)`` to ``(size, size, 3)``; two resamplers, so that the model learns neither's traces."""
    if sharp:
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def load_or_render(folder: Path, count: int, image_size: int, mask_size: int, *, first_seed: int) -> SceneSet:
    """The scenes with seeds from `first_seed` on; rendered once by two processes, then read from `folder`."""
    path = folder / f"scenes-{first_seed}-{count}-{image_size}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        chunk = 250
        starts = range(first_seed, first_seed + count, chunk)
        render = partial(_render_chunk, count=min(chunk, count), image_size=image_size, mask_size=mask_size)
        # Spawned, because a fork of a process in which torch has started its threads hangs.
        spawn = get_context("spawn")
        with ProcessPoolExecutor(2, spawn, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
            parts = list((pool.map if len(starts) > 1 else map)(render, starts))
        joined = [np.concatenate([part[i] for part in parts])[:count] for i in range(4)]
        with path.with_suffix(".part").open("wb") as file:
            np.savez(file, images=joined[0], masks=joined[1], boxes=joined[2], kinds=joined[3])
        path.with_suffix(".part").rename(path)
    with np.load(path) as stored:
        return SceneSet(stored["images"], stored["masks"], stored["boxes"], stored["kinds"])


def _render_chunk(start: int, count: int, image_size: int, mask_size: int) -> tuple[NDArray[np.generic], ...]:
    rows = [_render_one(seed, image_size, mask_size) for seed in range(start, start + count)]
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def _render_one(seed: int, image_size: int, mask_size: int) -> tuple[NDArray[np.generic], ...]:
    rng = np.random.default_rng(seed)
    objects = (7, MAX_OBJECTS) if rng.random() < CROWDED_SHARE else (1, 6)
    longest = int(rng.integers(128, 480))
    scene = render_scene(seed, objects=objects, long_side=(longest, longest + 1))
    masks = np.zeros((MAX_OBJECTS, mask_size, mask_size), np.uint8)
    boxes = np.zeros((MAX_OBJECTS, 4), np.float32)
    kinds = np.full((MAX_OBJECTS, 2), -1, np.int8)
    for i, thing in enumerate(scene.objects[:MAX_OBJECTS]):
        masks[i] = cv2.resize(thing.mask.astype(np.uint8) * 255, (mask_size, mask_size), interpolation=cv2.INTER_AREA)
        boxes[i] = _normalised(thing.box, scene)
        kinds[i] = COLORS.index(thing.color), SHAPES.index(thing.shape)
    return squash(scene.image, image_size, sharp=bool(rng.random() < 0.4)), masks, boxes, kinds


def _normalised(box: tuple[float, float, float, float], scene: Scene) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    return (
        (x0 + x1) / 2 / scene.width,
        (y0 + y1) / 2 / scene.height,
        (x1 - x0) / scene.width,
        (y1 - y0) / scene.height,
    )


def augment(
    image: NDArray[np.uint8], masks: NDArray[np.uint8], boxes: NDArray[np.float32], rng: random.Random
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """One of the eight turns of the square, then small changes of light, blur, noise or compression.

    Shapes keep their names under turns and mirrors, so one rendered scene serves as eight.
    """
    if rng.random() < 0.5:
        image, masks = image[:, ::-1], masks[:, :, ::-1]
        boxes = boxes * np.array([-1, 1, 1, 1], np.float32) + np.array([1, 0, 0, 0], np.float32)
    if rng.random() < 0.5:
        image, masks = image[::-1], masks[:, ::-1]
        boxes = boxes * np.array([1, -1, 1, 1], np.float32) + np.array([0, 1, 0, 0], np.float32)
    if rng.random() < 0.5:
        image, masks, boxes = image.transpose(1, 0, 2), masks.transpose(0, 2, 1), boxes[:, [1, 0, 3, 2]]
    image = np.ascontiguousarray(image)
    if rng.random() < 0.5:
        gain, offset = rng.uniform(0.88, 1.12), rng.uniform(-12, 12)
        image = np.clip(image * np.float32(gain) + np.float32(offset), 0, 255).astype(np.uint8)
    choice = rng.random()
    if choice < 0.12:
        image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 0.9)).astype(np.uint8)
    elif choice < 0.27:
        noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(2, 9), image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    elif choice < 0.36:
        stored = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, rng.randint(60, 95)])[1]
        image = np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.uint8)
    return image, masks, boxes
