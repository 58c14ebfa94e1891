"""Phrases that are not English: the glossary, the translation, and the warning where both are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam3_core.errors import BadSettings, InvalidPrompt
from sam3_core.settings import CoreSettings, load_settings
from sam3_core.wording import Worded, Words, glossary_key, is_latin, read_glossary

GLOSSARY = "# colours first\n公交车: bus\n\n红色 圆 ： red circle; red disc\nStraßenbahn: tram\nformula 1: race car\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "glossary.txt"
    path.write_text(GLOSSARY, encoding="utf-8")
    return path


def test_a_glossary_is_read_line_by_line(file: Path) -> None:
    assert read_glossary(file) == {
        "公交车": ("bus",),
        "红色 圆": ("red circle", "red disc"),
        "strassenbahn": ("tram",),
        "formula 1": ("race car",),
    }


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_files_from_windows_are_read_too(tmp_path: Path, start: str) -> None:
    path = tmp_path / "glossary.txt"
    path.write_bytes((start + "猫: cat\r\n犬: dog\r\n").encode())
    assert read_glossary(path) == {"猫": ("cat",), "犬": ("dog",)}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("公交车", "line 2 .* not like"),
        ("公交车:", "line 2 .* not like"),
        (": bus", "line 2 .* not like"),
        ("公交车: ;;", "line 2 .* not like"),
        ("猫: dog", "line 2 .* once more"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "glossary.txt"
    path.write_text(f"猫: cat\n{line}\n", encoding="utf-8")
    with pytest.raises(BadSettings, match=words):
        read_glossary(path)


def test_a_glossary_that_cannot_be_read_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latin1 = tmp_path / "latin1.txt"
    latin1.write_bytes("Stra\xdfe: street\n".encode("latin-1"))
    for path in (tmp_path / "missing.txt", tmp_path, latin1):
        monkeypatch.setenv("SAM3_GLOSSARY", str(path))
        with pytest.raises(BadSettings, match="SAM3_GLOSSARY"):
            load_settings(CoreSettings)
    monkeypatch.setenv("SAM3_GLOSSARY", "")
    assert load_settings(CoreSettings).glossary is None


@pytest.mark.parametrize("phrase", ["公交车", " 公交车 ", "STRASSENBAHN", "strassenbahn", "Formula  1", "formula １"])
def test_case_width_and_spaces_make_no_difference(file: Path, phrase: str) -> None:
    (asked,) = Words(read_glossary(file))(phrase).asked
    assert asked in ("bus", "tram", "race car")


def test_a_glossary_gives_synonyms_and_needs_no_note(file: Path) -> None:
    assert Words(read_glossary(file))("红色 圆") == Worded(("red circle", "red disc"))


def test_english_is_asked_as_it_is() -> None:
    assert Words({})("School Bus, 2nd é") == Worded(("School Bus, 2nd é",))


@pytest.mark.parametrize("phrase", ["公交车", "автобус", "حافلة", "red 公交车", "バス"])
def test_other_scripts_get_a_warning_once_in_the_log(phrase: str, caplog: pytest.LogCaptureFixture) -> None:
    words = Words({})
    first, again = words(phrase), words(phrase)
    assert first == again
    assert first.asked == (phrase,)
    (note,) = first.notes
    assert "not in Latin letters" in note
    assert phrase in note
    assert [record.message for record in caplog.records] == [note]


def test_a_glossary_with_a_foreign_meaning_is_taken_at_its_word() -> None:
    assert Words({glossary_key("кот"): ("cat",)})("Кот").asked == ("cat",)


def test_what_the_glossary_lacks_is_translated_once() -> None:
    asked: list[str] = []

    def translate(phrase: str) -> str:
        asked.append(phrase)
        return " bus  stop "

    words = Words({"猫": ("cat",)}, translate)
    assert words("猫").asked == ("cat",)
    assert words("bus").asked == ("bus",)
    assert words("公交车站") == words("公交车站") == Worded(("bus stop",), ("'公交车站' was translated: 'bus stop'",))
    assert asked == ["公交车站"]


def test_latin_phrases_are_translated_where_that_is_wanted() -> None:
    words = Words({}, lambda phrase: {"Katze": "cat", "bus": "Bus"}[phrase], translate_latin=True)
    assert words("Katze").asked == ("cat",)
    assert words("bus") == Worded(("Bus",))  # nothing happened that a person must know


def test_a_translation_that_fails_leaves_the_phrase_and_says_so() -> None:
    def refuse(phrase: str) -> str:
        raise InvalidPrompt("it has more than 64 tokens")

    worded = Words({}, refuse)("公交车")
    assert worded.asked == ("公交车",)
    assert "more than 64 tokens" in worded.notes[0]
    assert "not in Latin letters" in worded.notes[1]
    assert "could not be translated" in Words({}, lambda phrase: " ")("公交车").notes[0]
    foreign = Words({}, lambda phrase: "автобус")("公交车")
    assert foreign.asked == ("автобус",)
    assert "not in Latin letters" in foreign.notes[-1]


@given(st.text())
def test_any_text_is_worded(phrase: str) -> None:
    worded = Words({})(phrase)
    assert worded.asked == (phrase,)
    assert bool(worded.notes) != is_latin(phrase)


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_ascii_never_warns(phrase: str) -> None:
    assert is_latin(phrase)
