"""Which files a command line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam3_core.errors import InvalidInput
from sam3_prelabel.inputs import find_images


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b/1.jpg", "a/1.jpg", "a/1.PNG", "a/deep/2.tif", "a/notes.txt", "a/.hidden.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def names(paths: list[Path], *, recursive: bool = False, skip: tuple[Path, ...] = ()) -> list[str]:
    return [image.name for image in find_images(paths, recursive=recursive, skip=skip)]


def test_folders_are_sorted_and_shallow_unless_recursive(tree: Path) -> None:
    assert names([tree / "a"]) == ["1.PNG", "1.jpg"]
    assert names([tree / "a"], recursive=True) == ["1.PNG", "1.jpg", "deep/2.tif"]


def test_same_names_in_different_folders_stay_apart(tree: Path) -> None:
    assert names([tree / "b", tree / "a"]) == ["b/1.jpg", "a/1.PNG", "a/1.jpg"]


def test_a_file_counts_once_however_it_is_named(tree: Path) -> None:
    (tree / "link.jpg").symlink_to(tree / "a" / "1.jpg")
    assert names([tree / "a/1.jpg", tree / "b/../a/1.jpg", tree / "a", tree / "link.jpg"]) == ["1.jpg", "1.PNG"]


def test_a_named_file_is_taken_whatever_its_suffix(tree: Path) -> None:
    assert names([tree / "a/notes.txt"]) == ["notes.txt"]


def test_names_never_lead_out_of_the_output_folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "a" / "deep")
    assert names([Path("../../b/1.jpg"), Path("../1.jpg"), Path("2.tif")]) == ["b/1.jpg", "a/1.jpg", "a/deep/2.tif"]


def test_what_we_wrote_ourselves_is_no_input(tree: Path) -> None:
    assert names([tree], recursive=True, skip=(tree / "a",)) == ["1.jpg"]


def test_circles_of_links_end(tree: Path) -> None:
    (tree / "a" / "round").symlink_to(tree)
    assert "deep/2.tif" in names([tree / "a"], recursive=True)


@pytest.mark.parametrize(
    ("path", "sentence"), [("missing.jpg", "no file or folder"), ("empty", "no image in folder .*--recursive")]
)
def test_nothing_to_do_is_said(tree: Path, path: str, sentence: str) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(InvalidInput, match=sentence):
        find_images([tree / "a", tree / path], recursive=False)
