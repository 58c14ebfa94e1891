"""What became of a request, and whether that is as it should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from tools.chaos.clients import Answer, Message


class Outcome(StrEnum):
    """What became of a request. RIGHT: its answer, or, of a bad one, the sentence that says what is bad.

    REFUSED: a 503 with Retry-After. LEFT_OPEN: some task was left for later, as the answer says. NO_IMAGE: Label
    Studio did not answer. LEFT: the client did not wait.
    """

    RIGHT = "right"
    REFUSED = "refused"
    LEFT_OPEN = "left open"
    NO_IMAGE = "no image"
    LEFT = "client left"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Verdict:
    """problem: what is wrong; empty where nothing is."""

    outcome: Outcome
    problem: str = ""


Judge = Callable[[Answer, bool], Verdict]
"""Of an answer, and whether Label Studio was silent meanwhile. Answers with status 0 and refusals never get there."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request and who judges its answer. kind: for the table. bad: whether it is."""

    kind: str
    message: Message
    judge: Judge
    bad: bool = False


RIGHT = Verdict(Outcome.RIGHT)


def wrong(what: str, answer: Answer) -> Verdict:
    """With what came instead."""
    return Verdict(Outcome.WRONG, f"{what}: {answer.status} {answer.text[:200]!r}")


def judged(ask: Ask, answer: Answer, *, silent: bool) -> Verdict:
    """The verdict on an answer that somebody waited for."""
    if answer.status == 0:
        return wrong("no answer", answer)
    if answer.status in (429, 503):
        says = sentence(answer) and answer.headers.get("retry-after", "").isdecimal()
        return Verdict(Outcome.REFUSED) if says else wrong("refused without a sentence or a Retry-After", answer)
    try:
        return ask.judge(answer, silent)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        return wrong(f"an answer that cannot be read ({error!r})", answer)


def sentence(answer: Answer) -> str:
    """What an error says; empty where it says nothing, or in no way that people understand."""
    try:
        said = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return said if isinstance(said, str) and " " in said and "Traceback" not in said else ""


def refusal(*statuses: int) -> Judge:
    """That one of these comes, with a sentence."""

    def judge(answer: Answer, silent: bool) -> Verdict:
        good = answer.status in statuses and sentence(answer)
        return RIGHT if good else wrong(f"not refused with one of {statuses} and a sentence", answer)

    return judge
