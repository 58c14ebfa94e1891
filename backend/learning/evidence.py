"""What phrases found on reviewed images, kept: the model is asked once for each."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from msgspec import Struct

from backend.database import Database
from sam3_core.encodings import coco
from sam3_core.learning.examples import Candidate, Heard

_MEGAPIXELS = 1e6  # they were written here: no limit


@dataclass(frozen=True, slots=True)
class Spot:
    """One image of a reviewed task. page: its place in the task's list, 0 for a single image."""

    project: str
    task: str
    source: str
    page: int


class _Candidate(Struct, array_like=True):
    counts: str
    score: float
    feature: bytes | None


class _Heard(Struct, array_like=True):
    presence: float
    size: tuple[int, int]
    candidates: list[_Candidate]


class Evidence:
    """Callable from any thread. Raises sqlite3.Error where the store fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, spot: Spot, questions: Collection[str]) -> dict[str, Heard]:
        """What is known of these questions about one image. A question is a fingerprint of all that its answer
        depends on: the weights, the image, the phrase and how it is asked."""
        rows = self._database.rows(
            "SELECT question, found FROM evidence WHERE project = ? AND task = ? AND source = ? AND page = ?",
            (spot.project, spot.task, spot.source, spot.page),
        )
        return {question: unpacked(found) for question, found in rows if question in questions}

    def keep(self, spot: Spot, found: Mapping[str, Heard], size: tuple[int, int], *, beside: Collection[str]) -> None:
        """Keep answers; of those kept before only the ones to ``beside`` stay.

        size: ``(width, height)`` of the image in pixels.
        """
        where = (spot.project, spot.task, spot.source, spot.page)
        with self._database.writing() as connection:
            known = connection.execute(
                "SELECT question FROM evidence WHERE project = ? AND task = ? AND source = ? AND page = ?", where
            ).fetchall()
            connection.executemany(
                "DELETE FROM evidence WHERE project = ? AND task = ? AND source = ? AND page = ? AND question = ?",
                [(*where, question) for (question,) in known if question not in beside],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO evidence VALUES (?, ?, ?, ?, ?, ?)",
                [(*where, question, packed(heard, size)) for question, heard in found.items()],
            )


def packed(heard: Heard, size: tuple[int, int]) -> bytes:
    """As ``unpacked`` reads it: masks as COCO run lengths, features as float16."""
    candidates = [
        _Candidate(
            coco.encode(one.mask)["counts"],
            float(one.score),
            None if one.feature is None else one.feature.astype("<f2").tobytes(),
        )
        for one in heard.candidates
    ]
    return zlib.compress(msgspec.msgpack.encode(_Heard(float(heard.presence), size, candidates)), 1)


def unpacked(raw: bytes) -> Heard:
    """Raises zlib.error or msgspec.DecodeError for what ``packed`` did not write."""
    heard = msgspec.msgpack.decode(zlib.decompress(raw), type=_Heard)
    width, height = heard.size
    return Heard(
        heard.presence,
        tuple(
            Candidate(
                coco.decode({"size": [height, width], "counts": one.counts}, max_megapixels=_MEGAPIXELS),
                one.score,
                None if one.feature is None else np.frombuffer(one.feature, dtype="<f2").astype(np.float32),
            )
            for one in heard.candidates
        ),
    )
