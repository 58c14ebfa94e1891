"""What SAM3_MODEL may say, and one sentence for every way it can go wrong. The hub itself is simulated."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from sam3_core.engine import weights
from sam3_core.engine.weights import find_weights, missing_files, version_of
from sam3_core.errors import ModelUnavailable


@pytest.fixture
def copied(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


class Hub:
    """Stands for the hub and its cache: `cached` is what the cache holds, `online` what a download gives."""

    def __init__(self, cached: Path | None, online: Path | Exception) -> None:
        self.cached = cached
        self.online = online
        self.downloads: list[dict[str, object]] = []

    def __call__(self, repo: str, *, local_files_only: bool = False, **options: object) -> str:
        if local_files_only:
            if self.cached is None:
                raise LocalEntryNotFoundError("not in the cache")
            return str(self.cached)
        self.downloads.append({"repo": repo, **options})
        if isinstance(self.online, Exception):
            raise self.online
        return str(self.online)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Hub]:
    def install(*, cached: Path | None = None, online: Path | Exception) -> Hub:
        made = Hub(cached, online)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", made)
        return made

    return install


def refused(kind: type[HfHubHTTPError], status: int = 401) -> HfHubHTTPError:
    request = httpx.Request("GET", "https://huggingface.co/api/models/facebook/sam3")
    return kind(f"{status} Client Error\nmore lines", response=httpx.Response(status, request=request))


def problem(model: str, token: str | None = None) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        find_weights(model, token)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_a_complete_folder_is_taken_as_it_is(copied: Path, hub: Callable[..., Hub]) -> None:
    never = hub(online=AssertionError())
    assert find_weights(str(copied)) == copied
    assert never.downloads == []


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (["config.json"], "config.json"),
        (["model.safetensors"], "model.safetensors"),
        (["processor_config.json"], "processor_config.json"),
        (["tokenizer.json"], "tokenizer.json"),
        (["tokenizer.json", "config.json"], "config.json and no tokenizer.json"),
    ],
)
def test_a_missing_file_is_named(copied: Path, files: list[str], named: str) -> None:
    for file in files:
        (copied / file).unlink()
    sentence = problem(str(copied))
    assert f"has no {named};" in sentence
    assert "layout of facebook/sam3" in sentence


def test_the_tokenizer_may_come_in_either_form(copied: Path) -> None:
    (copied / "tokenizer.json").rename(copied / "vocab.json")
    assert missing_files(copied) == ["tokenizer.json"]
    (copied / "merges.txt").write_text("")
    assert missing_files(copied) == []


def test_missing_shards_are_named(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    index = '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    (copied / "model.safetensors.index.json").write_text(index)
    (copied / "model-1.safetensors").write_bytes(b"")
    assert missing_files(copied) == ["model-2.safetensors"]
    (copied / "model.safetensors.index.json").write_text("[]")
    assert "is not an index of weight files" in problem(str(copied))


def test_metas_own_files_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "sam3.pt").write_bytes(b"")
    assert "transformers layout" in problem(str(tmp_path))


@pytest.mark.parametrize("model", ["./nowhere", "/nowhere/at/all", "~/nowhere", "nowhere", "C:\\weights"])
def test_a_folder_that_is_not_there(model: str, hub: Callable[..., Hub]) -> None:
    never = hub(online=AssertionError())
    assert "there is no folder" in problem(model)
    assert never.downloads == []


def test_a_missing_demo_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "DEMO_FOLDER", tmp_path / "gone")
    assert "reinstall" in problem("demo")
    assert version_of("demo") == "sam3-demo"


def test_an_existing_folder_wins_over_a_hub_id(
    copied: Path, monkeypatch: pytest.MonkeyPatch, hub: Callable[..., Hub]
) -> None:
    never = hub(online=AssertionError())
    monkeypatch.chdir(copied.parent.parent)
    name = f"{copied.parent.name}/{copied.name}"
    assert find_weights(name).resolve() == copied.resolve()
    assert never.downloads == []


def test_a_complete_cache_needs_no_hub(copied: Path, hub: Callable[..., Hub]) -> None:
    never = hub(cached=copied, online=AssertionError())
    assert find_weights("facebook/sam3") == copied
    assert never.downloads == []


def test_a_cut_off_cache_is_downloaded_again(copied: Path, tmp_path: Path, hub: Callable[..., Hub]) -> None:
    partial = tmp_path / "partial"
    partial.mkdir()
    asked = hub(cached=partial, online=copied)
    assert find_weights("facebook/sam3@v1", "secret") == copied
    (download,) = asked.downloads
    assert (download["repo"], download["revision"], download["token"]) == ("facebook/sam3", "v1", "secret")
    assert not any("pt" in pattern for pattern in download["allow_patterns"])  # not the second copy of 3.4 GB


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (refused(GatedRepoError), ["facebook/sam3 is gated", "https://huggingface.co/facebook/sam3", "HF_TOKEN"]),
        (refused(RepositoryNotFoundError, 404), ["no repository facebook/sam3", "SAM3_MODEL"]),
        (refused(RevisionNotFoundError, 404), ["no revision v7"]),
        (LocalEntryNotFoundError("x"), ["not in the local cache", "cannot be reached", "folder"]),
        (OfflineModeIsEnabled("x"), ["not in the local cache", "folder"]),
        (refused(HfHubHTTPError, 503), ["503 Client Error", "try again"]),
        (OSError(28, "No space left on device"), ["No space left on device"]),
        (httpx.ConnectTimeout("timed out"), ["timed out", "try again"]),
    ],
)
def test_hub_failures_are_one_sentence(error: Exception, words: list[str], hub: Callable[..., Hub]) -> None:
    hub(online=error)
    sentence = problem("facebook/sam3@v7")
    assert all(word in sentence for word in words), sentence


def test_a_token_without_access_is_told_apart(hub: Callable[..., Hub]) -> None:
    hub(online=refused(GatedRepoError, 403))
    sentence = problem("facebook/sam3", "hf_secret")
    assert "token has no access" in sentence
    assert "hf_secret" not in sentence


def test_a_repository_of_something_else(hub: Callable[..., Hub], tmp_path: Path) -> None:
    hub(online=tmp_path)
    assert "some/model has no config.json and no model.safetensors" in problem("some/model")


def test_the_hub_is_never_asked_offline_in_tests() -> None:
    """The real function, cut off: what a machine without network and cache gets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        assert "not in the local cache" in problem("nobody/nothing-here")


def test_versions(copied: Path, tmp_path: Path) -> None:
    version = version_of(str(copied))
    name, mark = version.rsplit("-", 1)
    assert name == "copy"
    assert len(mark) == 8
    int(mark, 16)
    assert version_of(str(copied)) == version_of(f"{copied}/") == version
    moved = Path(shutil.copytree(copied, tmp_path / "elsewhere" / "copy"))
    assert version_of(str(moved)) == version  # the weights', not the place's or the clock's
    assert version_of("facebook/sam3") == "facebook/sam3"
    assert version_of("facebook/sam3@v2") == "facebook/sam3@v2"
    assert version_of("/nowhere/at/all") == "all"


def test_other_weights_have_another_version(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = version_of(str(copied))
    data = bytearray((copied / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copied / "model.safetensors").write_bytes(data)
    assert version_of(str(copied)) != version


def test_large_files_are_sampled_from_end_to_end(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    size = 40 * 1024 * 1024
    with file.open("wb") as stream:
        stream.truncate(size)
    seen = {version_of(str(tmp_path))}
    for place in (0, size // 63 * 20 + 10, size - 1):
        with file.open("r+b") as stream:
            stream.seek(place)
            stream.write(b"\x07")
        seen.add(version_of(str(tmp_path)))
    assert len(seen) == 4
