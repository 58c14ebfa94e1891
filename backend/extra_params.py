"""The extra parameters of a connection: choices for all of a project, as a person entered them in Label Studio."""

from __future__ import annotations

import json
import logging
from functools import lru_cache

from sam3_core.choices import OPEN, OPTIONS, Choices, quoted, read_choices

log = logging.getLogger(__name__)

_KNOWN = ", ".join(OPTIONS)


def read_extra(owner: str, extra: object) -> Choices:
    """What a connection's extra parameters choose: an object, its JSON, or nothing. What is wrong is in the log.

    owner: whose they are, for the log.
    """
    if not extra:
        return OPEN
    try:
        text = extra if isinstance(extra, str) else json.dumps(extra, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        log.warning("%s: the extra parameters are no JSON and are ignored: %s", owner, error)
        return OPEN
    return _read_extra(owner, text)


@lru_cache(maxsize=256)
def _read_extra(owner: str, text: str) -> Choices:
    """Label Studio repeats them each time that it looks whether we are there; the log says what is wrong once."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        log.warning("%s: the extra parameters are no JSON and are ignored: %s", owner, error)
        return OPEN
    if not isinstance(given, dict):
        log.warning("%s: the extra parameters are no JSON object and are ignored", owner)
        return OPEN
    choices, wrong = read_choices(given)
    for sentence in wrong:
        log.warning("%s: extra parameters: %s; it is ignored", owner, sentence)
    for name in given.keys() - OPTIONS.keys():
        log.warning("%s: extra parameters: %s is unknown; known are %s", owner, quoted(name), _KNOWN)
    return choices
