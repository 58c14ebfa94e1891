"""Every error knows its HTTP status; adapters never pick numbers."""

from __future__ import annotations

import inspect

import pytest

from sam3_core import errors

STATUS = {
    "Sam3Error": 500,
    "InvalidInput": 400,
    "InvalidPrompt": 422,
    "BrokenImage": 422,
    "UnknownImage": 404,
    "UnknownAdapter": 404,
    "TooLarge": 413,
    "Unauthorized": 401,
    "ImageUnavailable": 424,
    "ImageOutOfReach": 424,
    "ServerUnavailable": 502,
    "NotReady": 503,
    "Busy": 503,
    "OutOfTime": 503,
    "OutOfMemory": 503,
    "Dropped": 409,
    "Unsupported": 501,
    "ModelUnavailable": 503,
    "BadSettings": 500,
}


def _classes() -> dict[str, type[errors.Sam3Error]]:
    return {name: found for name, found in vars(errors).items() if inspect.isclass(found)}


def test_the_table_is_whole() -> None:
    assert {name: error.status for name, error in _classes().items()} == STATUS


def test_the_docstring_shows_each_class_with_its_status() -> None:
    lines = (errors.__doc__ or "").splitlines()
    for name, status in STATUS.items():
        assert any(f"{name} " in line and f" {status} " in line for line in lines), name


@pytest.mark.parametrize("error", list(_classes().values()), ids=lambda error: error.__name__)
def test_all_share_one_root_and_keep_their_sentence(error: type[errors.Sam3Error]) -> None:
    raised = error("what to do")
    assert isinstance(raised, errors.Sam3Error)
    assert str(raised) == "what to do"


def test_not_ready_says_when_to_come_back() -> None:
    assert errors.NotReady("loading").retry_after == 5.0
    assert errors.NotReady("loading", retry_after=1.5).retry_after == 1.5
    assert errors.Sam3Error("broken").retry_after is None
