"""Every error this product raises on purpose.

    Sam3Error                     500  the tree's root: something of ours broke
    ├── InvalidInput              400  the caller can mend it; the sentence says how
    │   ├── InvalidPrompt         422  well-formed, but asks for nothing the model can do
    │   ├── BrokenImage           422  bytes that are no picture, or one we do not read
    │   ├── UnknownImage          404  named by a key that the server does not hold (any more): send the file
    │   ├── UnknownAdapter        404  no fine-tuned weights of that name that go with the ones that are loaded
    │   └── TooLarge              413  over a stated limit (bytes, megapixels, JSON)
    ├── Unauthorized              401  no or wrong credentials for our own server
    ├── ImageUnavailable          424  the picture could not be fetched from where it lives
    │   └── ImageOutOfReach       424  for now: no answer, a login or a setting is wanting
    ├── ServerUnavailable         502  another server that the work needs gives no answer, or refuses
    ├── NotReady                  503  weights are still loading; carries Retry-After
    ├── Busy                      503  too many requests wait already; carries Retry-After
    │   ├── OutOfTime             503  the request's time was spent before its turn came
    │   └── OutOfMemory           503  the device has no memory for it, not even in the smallest steps
    ├── Dropped                   409  a newer request took this one's place before it was worked on
    ├── Unsupported               501  this checkpoint has no such head (e.g. clicks)
    └── ModelUnavailable          503  the weights cannot be loaded; needs a human
        └── BadSettings           500  a setting stops the start

Adapters never pick status numbers: they send ``error.status`` and ``str(error)``.
"""

from __future__ import annotations


class Sam3Error(Exception):
    """Root of the tree. ``str(error)`` is one sentence for a person, without secrets."""

    status: int = 500
    retry_after: float | None = None
    """Seconds for a Retry-After header, where waiting helps."""


class InvalidInput(Sam3Error):
    """The request is wrong in a way its sender can mend."""

    status = 400


class InvalidPrompt(InvalidInput):
    """The request parses, but asks for nothing the model could do."""

    status = 422


class BrokenImage(InvalidInput):
    """The bytes are no picture, are cut off, or are of a kind we do not read."""

    status = 422


class UnknownImage(InvalidInput):
    """The image was named by its key, and the server does not hold it (any more)."""

    status = 404


class UnknownAdapter(InvalidInput):
    """There are no fine-tuned weights of that name, or none that go with the checkpoint that is loaded."""

    status = 404


class TooLarge(InvalidInput):
    """Over a stated limit: bytes, megapixels, length of a body."""

    status = 413


class Unauthorized(Sam3Error):
    """No credentials, or wrong ones, for a server of ours that asks for them."""

    status = 401


class ImageUnavailable(Sam3Error):
    """The picture could not be fetched: address, login, size or time."""

    status = 424


class ImageOutOfReach(ImageUnavailable):
    """The picture could not be fetched now, but may be later: the way to it is closed, not the picture gone. What is
    wanting may be an answer, a login, or a setting of ours."""


class ServerUnavailable(Sam3Error):
    """Another server that the work needs gives no answer, or refuses."""

    status = 502


class NotReady(Sam3Error):
    """The weights are still loading; the same request will work later."""

    status = 503

    def __init__(self, message: str, *, retry_after: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Busy(Sam3Error):
    """There is more to do than can be done; the same request will work later."""

    status = 503

    def __init__(self, message: str, *, retry_after: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OutOfTime(Busy):
    """The request's time was spent before it was worked on."""


class OutOfMemory(Busy):
    """The device has no memory for this, not even in the smallest steps."""


class Dropped(Sam3Error):
    """Nobody waits for the answer any more, so it was not worked out."""

    status = 409


class Unsupported(Sam3Error):
    """The loaded checkpoint has no head for this kind of prompt."""

    status = 501


class ModelUnavailable(Sam3Error):
    """The weights cannot be loaded until a person changes something; says what."""

    status = 503


class BadSettings(ModelUnavailable):
    """A setting is unknown or has a value that cannot work."""

    status = 500
