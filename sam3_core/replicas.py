"""ReplicatedSegmenter: one Segmenter over several servers that hold the same weights. Needs no torch."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from sam3_core.caller import BULK, CLICK, Caller
from sam3_core.errors import Busy, ModelUnavailable, NotReady, Sam3Error, Unauthorized
from sam3_core.images import EncodedImage
from sam3_core.remote import Lost, RemoteSegmenter
from sam3_core.results import ConceptResult, Instance
from sam3_core.segmenter import Segmenter
from sam3_core.settings import CoreSettings
from sam3_core.totals import total_cache, total_load
from sam3_core.types import Concept, FindOptions, ModelInfo, ModelState, OutlineOptions, VisualPrompt

_T = TypeVar("_T")

_LOOK, _LOOK_AGAIN = 1.0, 0.25  # seconds between two looks at a replica that is ready, and at one that is not
_FIRST_LOOK = 2.5  # seconds that the first question waits for replicas to tell their version
_UNKNOWN = "unknown"


def remote_segmenter(settings: CoreSettings, *, seconds: float, insist: bool = True) -> Segmenter:
    """Of the server that ``core_url`` names, or of the several. seconds, insist: as for ``ReplicatedSegmenter``.

    Raises BadSettings for what is no address.
    """
    user, password, token = settings.core_user, settings.core_password, settings.core_token
    if insist and len(settings.core_urls) == 1:
        return RemoteSegmenter(settings.core_urls[0], user=user, password=password, token=token, seconds=seconds)
    return ReplicatedSegmenter(
        settings.core_urls,
        user=user,
        password=password,
        token=token,
        seconds=seconds,
        load_wait=settings.load_wait,
        insist=insist,
    )


class _Replica:
    """One server, and how it stood when it was last looked at."""

    def __init__(self, far: RemoteSegmenter, scout: RemoteSegmenter) -> None:
        self.far = far
        self.info = ModelInfo(_UNKNOWN, ModelState.LOADING, _UNKNOWN, _UNKNOWN, can_outline=False)
        self.looked = threading.Event()
        self._scout = scout  # on connections of its own: looks must not keep those of requests from growing old

    def look(self) -> None:
        self.info = self._scout.info()
        self.looked.set()

    def pass_over(self, error: Sam3Error) -> None:
        """Until a look says otherwise."""
        loading = isinstance(error, NotReady) and not isinstance(error, Lost)
        state = ModelState.LOADING if loading else ModelState.FAILED
        self.info = replace(self.info, state=state, problem="" if loading else str(error))

    def rank(self, key: str) -> bytes:
        """Of an image at this replica: the highest wins (rendezvous hashing)."""
        return hashlib.blake2b(f"{key} {self.far.url}".encode(), digest_size=8).digest()


class ReplicatedSegmenter:
    """SAM 3 in several other processes; see ``Segmenter`` for the contract. Callable from any thread.

    An image has a replica of its own, which holds its embedding: the same for everybody who names the same addresses,
    and when replicas come or go, only the images of those move. One that is down, still loads, or refuses for want of
    room is passed over for the next in the image's order. What a replica may have begun to work on is sent to another
    only when nothing listens at the first one's address any more. Errors of the request's own are nobody else's
    business.

    Threads look at each replica all the time, so that ``info`` answers at once and no request pays for one that is
    known to be away. Replicas whose weights are not those that were seen first are not used.

    Raises what the replicas raise; ModelUnavailable when none can be used, NotReady when all that could still load.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        seconds: float = 90.0,
        load_wait: float = 60.0,
        insist: bool = True,
    ) -> None:
        """urls, user, password, token, seconds: as for ``RemoteSegmenter``. load_wait: seconds for which a call waits
        where all replicas load. insist: whether a call that all replicas are too busy for is tried again.

        Raises BadSettings for what is no address.
        """

        def client(url: str) -> RemoteSegmenter:
            return RemoteSegmenter(url, user=user, password=password, token=token, seconds=seconds, insist=False)

        self._replicas = [_Replica(client(url), client(url)) for url in urls]
        self._seconds, self._load_wait, self._insists = seconds, load_wait, insist
        self._version = _UNKNOWN
        self._lock = threading.Lock()
        self._known_by: float | None = None
        self._closed = threading.Event()

    def info(self) -> ModelInfo:
        """All replicas as one: READY when any is. ``problem`` names the sick ones, also while others are READY."""
        self._watch()
        infos = [self._judged(replica) for replica in self._replicas]
        states = {info.state for info in infos}
        state = next(s for s in (ModelState.READY, ModelState.LOADING, ModelState.FAILED) if s in states)
        return ModelInfo(
            version=self._version,
            state=state,
            device=_joined(info.device for info in infos),
            dtype=_joined({info.dtype for info in infos}),
            problem="; ".join(info.problem for info in infos if info.state is ModelState.FAILED),
            can_outline=any(info.can_outline for info in infos if info.state is state),
            cache=total_cache([info.cache for info in infos]),
            load=total_load([info.load for info in infos]),
        )

    def find(
        self,
        image: bytes | EncodedImage,
        concepts: Sequence[Concept],
        options: FindOptions | None = None,
        *,
        caller: Caller = BULK,
    ) -> list[ConceptResult]:
        """One result per concept, in order."""
        return self._ask(image, caller, lambda far, image, caller: far.find(image, concepts, options, caller=caller))

    def outline(
        self,
        image: bytes | EncodedImage,
        prompt: VisualPrompt,
        options: OutlineOptions | None = None,
        *,
        caller: Caller = CLICK,
    ) -> list[Instance]:
        """Readings of one visual prompt, best first."""
        return self._ask(image, caller, lambda far, image, caller: far.outline(image, prompt, options, caller=caller))

    def warm(self, image: bytes | EncodedImage, *, caller: Caller = BULK) -> None:
        """Have the image encoded by its replica, for all kinds of prompts."""
        self._ask(image, caller, lambda far, image, caller: far.warm(image, caller=caller))

    def close(self) -> None:
        """No longer look at the replicas."""
        self._closed.set()

    def _ask(
        self,
        image: bytes | EncodedImage,
        caller: Caller,
        ask: Callable[[RemoteSegmenter, EncodedImage, Caller], _T],
    ) -> _T:
        """The answer of the first replica in the image's order that takes the request."""
        self._watch()
        image, began = EncodedImage.of(image), time.monotonic()
        caller = caller.sooner(began + self._seconds)
        while True:
            caller.check()
            full: Busy | None = None
            for replica in self._usable(image.key):
                try:
                    return ask(replica.far, image, caller)
                except Lost as error:
                    replica.pass_over(error)
                    if not replica.far.gone():
                        raise NotReady(str(error)) from None
                except (NotReady, ModelUnavailable, Unauthorized) as error:
                    replica.pass_over(error)
                except Busy as error:
                    if type(error) is not Busy:  # out of time or memory: its own
                        raise
                    full = error
            self._rest(full, caller, began)

    def _rest(self, full: Busy | None, caller: Caller, began: float) -> None:
        """Before another round. Raises when there will be none."""
        if full is not None:
            pause = full.retry_after or _LOOK
            if not self._insists or pause >= caller.seconds_left:
                raise full
            time.sleep(pause)
            return
        info = self.info()
        if info.state is ModelState.FAILED:
            raise ModelUnavailable(info.problem)
        if info.state is ModelState.LOADING and time.monotonic() > began + self._load_wait:
            raise NotReady("the weights are still loading; try again in a moment")
        time.sleep(min(_LOOK_AGAIN, caller.seconds_left))

    def _usable(self, key: str) -> list[_Replica]:
        """Those that are ready, in the image's order."""
        ready = [replica for replica in self._replicas if self._judged(replica).state is ModelState.READY]
        return sorted(ready, key=lambda replica: replica.rank(key), reverse=True)

    def _judged(self, replica: _Replica) -> ModelInfo:
        """How it stands; one with other weights than those that were seen first counts as FAILED."""
        info = replica.info
        with self._lock:
            if self._version == _UNKNOWN:
                self._version = info.version
        if info.version in (self._version, _UNKNOWN):
            return info
        problem = f"{replica.far.url} runs {info.version}, others {self._version}: start all with the same weights"
        return replace(info, state=ModelState.FAILED, problem=problem)

    def _watch(self) -> None:
        """Start to look, the first time; not in the constructor, since threads do not survive a fork."""
        with self._lock:
            if self._known_by is None:
                self._known_by = time.monotonic() + _FIRST_LOOK
                for replica in self._replicas:
                    threading.Thread(target=self._look, args=(replica,), name="sam3-replica", daemon=True).start()
        for replica in self._replicas:
            replica.looked.wait(max(0.0, self._known_by - time.monotonic()))

    def _look(self, replica: _Replica) -> None:
        pause = 0.0
        while not self._closed.wait(pause):
            replica.look()
            pause = _LOOK if replica.info.state is ModelState.READY else _LOOK_AGAIN


def _joined(words: Iterable[str]) -> str:
    """Each once, with how often it is there."""
    counted = Counter(word for word in words if word != _UNKNOWN)
    return ", ".join(f"{count} x {word}" if count > 1 else word for word, count in counted.items()) or _UNKNOWN
