"""Requests that have a right answer: the one that was given before the storm."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import starmap
from typing import Any

from tools.chaos.bodies import LOGIN, annotated, click, post, predict, same_instances, same_regions, typed, upload
from tools.chaos.clients import Answer, Manner, Message, send
from tools.chaos.server import ChaosFailed
from tools.chaos.stand_in import SIGNATURE, LabelStudio
from tools.chaos.verdicts import RIGHT, Ask, Outcome, Verdict, wrong

_NEW = 10**6
_PAGES = ("/", "/health", "/ready", "/status", "/status.json", "/metrics", "/versions", "/v1/info")
_FIRST = 9 * 10**8  # number of the first task that is asked about outside of a storm


@dataclass
class Known:
    """The right answers, without what differs from file to file. clicks, typed: by photo and place; others by photo.

    acknowledged: phrases that the server said it took note of, by project.
    """

    batch: list[list[dict[str, Any]]] = field(default_factory=list)
    clicks: dict[tuple[int, int], list[dict[str, Any]]] = field(default_factory=dict)
    typed: dict[tuple[int, int], list[dict[str, Any]]] = field(default_factory=dict)
    found: list[list[dict[str, Any]]] = field(default_factory=list)
    outlined: list[list[dict[str, Any]]] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)


class Good:
    """Makes requests about a Label Studio's photos."""

    def __init__(self, site: LabelStudio) -> None:
        self.site = site
        self.known = Known()
        self._tasks: dict[int, int] = {}  # the photo of each
        self._asked = _FIRST

    def learn(self, port: int) -> None:
        """Ask for every answer, one after the other. Raises ChaosFailed where there is none."""
        self.known = self._answers(port)

    def answers_now(self, port: int) -> str:
        """Ask again; what differs, or nothing."""
        before, now = self.known, self._answers(port)
        regions = {
            "predictions": zip(before.batch, now.batch, strict=True),
            "clicks": zip(before.clicks.values(), now.clicks.values(), strict=True),
            "typed phrases": zip(before.typed.values(), now.typed.values(), strict=True),
        }
        instances = {
            "/v1/find": zip(before.found, now.found, strict=True),
            "/v1/outline": zip(before.outlined, now.outlined, strict=True),
        }
        differ = [name for name, pairs in regions.items() if not all(starmap(same_regions, pairs))]
        differ += [name for name, pairs in instances.items() if not all(starmap(same_instances, pairs))]
        return ", ".join(differ)

    def make(self, number: int, rng: random.Random) -> Ask:
        """One of them. number: of the request; its tasks are numbered by it."""
        makers: tuple[tuple[int, Callable[[int, random.Random], Ask]], ...] = (
            (20, self._batch), (12, self._opened), (30, self._click), (8, self._typed), (6, self._find),
            (5, self._outline), (2, self._warm), (5, self._setup), (5, self._webhook), (7, self._page),
        )  # fmt: skip
        (maker,) = rng.choices([maker for _, maker in makers], [weight for weight, _ in makers])
        return maker(number, rng)

    def batch(self, number: int, photos: Sequence[int], addresses: Sequence[str], kind: str = "batch") -> Ask:
        """A /predict for photos at these addresses; a photo of -1 is none that can be used."""
        message = predict([(100 * number + i, address) for i, address in enumerate(addresses)])
        self._tasks |= {100 * number + i: photo for i, photo in enumerate(photos)}

        def judge(answer: Answer, silent: bool) -> Verdict:
            if answer.status != 200 or len(entries := answer.json()["results"]) != len(photos):
                return wrong("not as many predictions as tasks", answer)
            outcomes = [self._prediction(photo, entry, silent) for photo, entry in zip(photos, entries, strict=True)]
            if Outcome.WRONG in outcomes:
                return wrong(f"predictions are {', '.join(outcomes)}", answer)
            return Verdict(next((one for one in outcomes if one is not Outcome.RIGHT), Outcome.RIGHT))

        return Ask(kind, message, judge, bad=-1 in photos)

    def pushed(self) -> str:
        """What is wrong with the predictions that Label Studio got outside of answers; empty where nothing is."""
        stored = list(self.site.stored)
        twice = len(stored) - len({one["task"] for one in stored})
        if twice:
            return f"{twice} predictions were stored twice"
        wrong = [one for one in stored if not self._is_right(self._tasks[one["task"]], one["result"])]
        empty = sum(not one["result"] for one in wrong)
        return f"{len(wrong)} of {len(stored)} are not right, {empty} of them empty" if wrong else ""

    def _is_right(self, photo: int, regions: list[dict[str, Any]]) -> bool:
        """Of what was pushed: an empty prediction is only for an image that nobody will ever have."""
        if not regions:
            return photo < 0
        return photo >= 0 and same_regions(self.known.batch[photo], regions)

    def _prediction(self, photo: int, entry: Any, silent: bool) -> Outcome:
        """entry: of the answer. ``[]`` leaves a task open, as it must be where its image is out of reach for now."""
        if entry == []:
            return Outcome.LEFT_OPEN if photo < 0 or silent else Outcome.WRONG
        if photo < 0 and _problem(entry) and entry["result"] == []:
            return Outcome.RIGHT
        same = photo >= 0 and not _problem(entry) and same_regions(self.known.batch[photo], entry["result"])
        return Outcome.RIGHT if same else Outcome.WRONG

    def _batch(self, number: int, rng: random.Random) -> Ask:
        photos = [self._photo(rng) for _ in range(rng.randrange(2, 6))]
        return self.batch(number, photos, [self._address(photo, rng) for photo in photos])

    def _opened(self, number: int, rng: random.Random) -> Ask:
        photo = self._photo(rng)
        return self.batch(number, [photo], [self._address(photo, rng)], "opened task")

    def _click(self, number: int, rng: random.Random) -> Ask:
        photo = self._photo(rng)
        spot = rng.randrange(len(self.site.photos[photo].spots))
        return self.click(number, photo, spot, self._address(photo, rng))

    def click(self, number: int, photo: int, spot: int, address: str) -> Ask:
        """A click on an object of a photo."""
        x, y, label = self.site.photos[photo].spots[spot]
        message = predict([(100 * number, address)], [click(number, x, y, label)])
        return Ask("click", message, self._one(lambda: self.known.clicks[photo, spot]))

    def _typed(self, number: int, rng: random.Random) -> Ask:
        photo = self._photo(rng)
        spot = rng.randrange(len(self.site.photos[photo].spots))
        label = self.site.photos[photo].spots[spot][2]
        message = predict([(100 * number, self._address(photo, rng))], [typed(number, label)])
        return Ask("typed phrase", message, self._one(lambda: self.known.typed[photo, spot]))

    def _one(self, known: Callable[[], list[dict[str, Any]]]) -> Callable[[Answer, bool], Verdict]:
        def judge(answer: Answer, silent: bool) -> Verdict:
            if answer.status != 200:
                return wrong("no prediction", answer)
            (entry,) = answer.json()["results"]
            if silent and _problem(entry):
                return Verdict(Outcome.NO_IMAGE)
            return RIGHT if same_regions(known(), entry["result"]) else wrong("other regions", answer)

        return judge

    def _find(self, number: int, rng: random.Random) -> Ask:
        photo = self._photo(rng)
        message = upload("/v1/find", self._concepts(photo), self.site.photos[photo].variant(rng.randrange(_NEW)))

        def judge(answer: Answer, silent: bool) -> Verdict:
            found = _instances(answer) if answer.status == 200 else None
            same = found is not None and same_instances(self.known.found[photo], found)
            return RIGHT if same else wrong("other instances", answer)

        return Ask("/v1/find", message, judge)

    def _outline(self, number: int, rng: random.Random) -> Ask:
        photo = self._photo(rng)
        message = upload("/v1/outline", self._point(photo), self.site.photos[photo].variant(rng.randrange(_NEW)))

        def judge(answer: Answer, silent: bool) -> Verdict:
            same = answer.status == 200 and same_instances(self.known.outlined[photo], answer.json()["instances"])
            return RIGHT if same else wrong("another outline", answer)

        return Ask("/v1/outline", message, judge)

    def _warm(self, number: int, rng: random.Random) -> Ask:
        photo = self.site.photos[self._photo(rng)]
        message = upload("/v1/warm", {}, photo.variant(rng.randrange(_NEW)))
        return Ask("/v1/warm", message, _is(200))

    def _setup(self, number: int, rng: random.Random) -> Ask:
        body = {"project": f"{rng.randrange(50)}.17", "schema": "<View/>", "hostname": self.site.url,
                "access_token": None, "extra_params": None}  # fmt: skip
        return Ask("/setup", post("/setup", body), _is(200))

    def _webhook(self, number: int, rng: random.Random) -> Ask:
        def judge(answer: Answer, silent: bool) -> Verdict:
            if answer.status == 201:
                self.known.acknowledged[str(number)] = f"phrase {number}"
            return _is(201)(answer, silent)

        return Ask("/webhook", annotated(number, f"phrase {number}"), judge)

    def _page(self, number: int, rng: random.Random) -> Ask:
        return Ask("pages", Message("GET", rng.choice(_PAGES), login=LOGIN), _is(200))

    def _photo(self, rng: random.Random) -> int:
        return rng.randrange(len(self.site.photos))

    def _address(self, photo: int, rng: random.Random) -> str:
        """A third are photos that were seen before; half have a signature in their address."""
        variant = 0 if rng.random() < 0.3 else rng.randrange(_NEW)
        path = self.site.address(photo, variant)
        if rng.random() < 0.5:
            return path
        return f"{self.site.url}/public/{path.rpartition('/')[2]}?X-Amz-Signature={SIGNATURE}"

    def _concepts(self, photo: int) -> object:
        labels = dict.fromkeys(label for _, _, label in self.site.photos[photo].spots)
        return {"concepts": [{"phrases": [label]} for label in labels]}

    def _point(self, photo: int) -> object:
        x, y, _ = self.site.photos[photo].spots[0]
        return {"prompt": {"points": [{"x": 3.2 * x, "y": 2.4 * y}]}}

    def _answers(self, port: int) -> Known:
        known = Known(acknowledged=self.known.acknowledged)
        for number, photo in enumerate(self.site.photos):
            address = self.site.address(number, 0)
            known.batch.append(self._regions(port, predict([(self._task(), address)])))
            for spot, (x, y, label) in enumerate(photo.spots):
                asked = click(self._asked, x, y, label)
                known.clicks[number, spot] = self._regions(port, predict([(self._task(), address)], [asked]))
                asked = typed(self._asked, label)
                known.typed[number, spot] = self._regions(port, predict([(self._task(), address)], [asked]))
            known.found.append(_instances(_whole(port, upload("/v1/find", self._concepts(number), photo.data))))
            outlined = _whole(port, upload("/v1/outline", self._point(number), photo.data)).json()["instances"]
            known.outlined.append(outlined)
        return known

    def _task(self) -> int:
        self._asked += 1
        return self._asked

    def _regions(self, port: int, message: Message) -> list[dict[str, Any]]:
        answer = _whole(port, message)
        (entry,) = answer.json()["results"]
        if not entry or not entry["result"]:
            raise ChaosFailed(f"no regions in a photo with objects: {answer.text[:300]!r}")
        return [
            {name: region[name] for name in ("type", "value", "score", "from_name")} for region in entry["result"]
        ]


def _whole(port: int, message: Message) -> Answer:
    answer = send(port, message, Manner.POLITE, random.Random(0))
    if answer.status != 200:
        raise ChaosFailed(f"{message.path} without a storm: {answer.status} {answer.text[:300]!r}")
    return answer


def _problem(entry: dict[str, Any]) -> str:
    """Why a prediction is empty, where it was not the model's doing."""
    return str(entry.get("meta", {}).get("problem", ""))


def _instances(answer: Answer) -> list[dict[str, Any]]:
    return [instance for result in answer.json()["results"] for instance in result["instances"]]


def _is(status: int) -> Callable[[Answer, bool], Verdict]:
    return lambda answer, silent: RIGHT if answer.status == status else wrong(f"not {status}", answer)
