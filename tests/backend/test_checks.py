"""The check of a project's labeling config, and the last failures with their hints."""

from __future__ import annotations

import pytest
from request_bodies import CONFIG

from backend.checks import check_config
from backend.failures import Failures
from sam3_core.errors import Busy, ImageUnavailable, OutOfMemory

FOUR = '<Label value="circle"/><Label value="square"/><Label value="triangle"/><Label value="star"/>'


def with_points(labels: str = FOUR, attributes: str = "", config: str = CONFIG) -> str:
    """The config with a tag for clicks."""
    tool = f'<KeyPointLabels name="kp" toName="image" {attributes}>{labels}</KeyPointLabels>'
    return config.replace("</View>", f"{tool}</View>")


def test_a_config_that_is_right_is_not_remarked_upon() -> None:
    check = check_config(with_points())
    assert (check.problem, check.warnings) == ("", ())
    assert [label.phrases for label in check.labels] == [("circle",), ("square",), ("triangle",), ("star",)]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (CONFIG, "neither click nor draw"),
        (with_points(attributes='smart="false"'), "neither click nor draw"),
        (with_points(FOUR + '<Label value="bus"/>'), "kp has 'bus', which no tag for results has"),
        (with_points('<Label value="circle"/>'), "'square', 'triangle', 'star' can be searched but not clicked"),
        (
            with_points(config=CONFIG.replace('toName="image">', 'toName="image" threshold="much">')),
            'threshold="much"',
        ),
        (with_points(config=CONFIG.replace('"circle"', '"circle" fineness="x"')), "fineness"),
        (with_points(config=CONFIG.replace('"circle"', '" " prompt=";"')), "is left out"),
        (with_points(attributes='candidates="9"'), 'candidates="9"'),
    ],
)
def test_what_annotators_will_stumble_over(config: str, said: str) -> None:
    check = check_config(config)
    assert check.problem == ""
    assert any(said in warning for warning in check.warnings), check.warnings


def test_warnings_are_there_the_second_time_too() -> None:
    """Plans are remembered; what was said when they were read must be as well."""
    config = with_points(attributes='candidates="7"')
    assert check_config(config).warnings == check_config(config).warnings != ()


@pytest.mark.parametrize(
    "config", ["", "<View>", "x" * 2_000_000, '<!DOCTYPE a [<!ENTITY b "c">]><View/>', "<View/>"]
)
def test_a_config_that_is_none_is_a_problem(config: str) -> None:
    check = check_config(config)
    assert check.problem
    assert (check.labels, check.warnings) == ((), ())


def test_failures_are_bounded_and_newest_first() -> None:
    failures = Failures()
    for number in range(500):
        failures.add(ImageUnavailable(f"number {number}"), task=number)
    assert len(failures.last()) == 50
    assert [failure.task for failure in failures.last()[:2]] == ["499", "498"]
    failures.add(ImageUnavailable("number 480"))
    assert (failures.last()[0].sentence, failures.last()[0].times) == ("number 480", 2)


def test_hints_are_of_the_most_special_kind_and_defects_keep_their_words_to_themselves() -> None:
    failures = Failures()
    for error in (Busy("a"), OutOfMemory("b"), ValueError("secret")):
        failures.add(error)
    defect, memory, busy = failures.last()
    assert memory.hint != busy.hint
    assert "SAM3_CACHE_MB" in memory.hint
    assert "secret" not in str(defect)
    failures.add(ImageUnavailable("https://host/a.jpg?X-Amz-Signature=secret was refused"))
    assert "secret" not in str(failures.last()[0])
    assert (defect.kind, memory.kind) == ("defect", "out_of_memory")
