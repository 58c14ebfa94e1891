"""Where the weights are: the bundled demo, a folder, or the hub's cache; and what to do when they are not there."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from sam3_core.errors import ModelUnavailable

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parents[1] / "demo" / "checkpoint"

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
# The repositories also carry the original pickled weights, as large again and never read here.
_HUB_FILES = ("*.json", "*.txt", "*.safetensors")
_SAMPLES, _SAMPLE_BYTES = 64, 64 * 1024


def version_of(model: str) -> str:
    """A short name of the weights that stays the same as long as they do, worked out without loading them.

    ``sam3-demo-1f2e3d4c`` for the demo, ``folder-1f2e3d4c`` for a folder, the id itself for the hub. The hex is
    a fingerprint of the weight files (see ``_fingerprint``); it is left out when they cannot be read.
    """
    folder = _local_folder(model)
    if folder is None:
        return model
    name = "sam3-demo" if model == DEMO else folder.resolve().name
    mark = _fingerprint(folder)
    return f"{name}-{mark}" if mark else name


def find_weights(model: str, token: str | None = None) -> Path:
    """The folder with a complete checkpoint, downloaded from the hub first if need be.

    A copy in the hub's cache is used as it is, without asking the hub: a server starts the same offline.
    Raises ModelUnavailable with a sentence that says what to do.
    """
    folder = _local_folder(model)
    if folder is None:
        return _from_hub(model, token)
    if not folder.is_dir():
        hint = "reinstall the package" if model == DEMO else "set SAM3_MODEL to `demo`, a hub id or a folder"
        raise ModelUnavailable(f"there is no folder {folder} with weights; {hint}")
    missing = missing_files(folder)
    if missing:
        raise ModelUnavailable(f"the folder {folder} has no {' and no '.join(missing)}; {_layout_hint(folder)}")
    return folder


def missing_files(folder: Path) -> list[str]:
    """What a checkpoint folder lacks, named as a person would look for it; empty when it is complete."""
    needs: list[tuple[str, bool]] = [
        (CONFIG, (folder / CONFIG).is_file()),
        (WEIGHTS, (folder / WEIGHTS).is_file() or (folder / INDEX).is_file()),
        (
            "processor_config.json",
            any((folder / name).is_file() for name in ("processor_config.json", "preprocessor_config.json")),
        ),
        (
            "tokenizer.json",
            (folder / "tokenizer.json").is_file()
            or all((folder / name).is_file() for name in ("vocab.json", "merges.txt")),
        ),
    ]
    missing = [name for name, there in needs if not there]
    if (folder / INDEX).is_file():
        missing += [shard.name for shard in weight_files(folder) if not shard.is_file()]
    return missing


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, in order: one, or the shards its index names."""
    if (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file():
        return [folder / WEIGHTS]
    try:
        shards = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnavailable(f"{folder / INDEX} is not an index of weight files: {error}") from None
    return [folder / name for name in sorted(shards)]


def _local_folder(model: str) -> Path | None:
    """The folder a model setting names; None for a hub id. An existing folder wins over a hub id of that name."""
    if model == DEMO:
        return DEMO_FOLDER
    folder = Path(model).expanduser()
    return folder if folder.is_dir() or not _HUB_ID.fullmatch(model) or model.startswith((".", "~")) else None


def _layout_hint(folder: Path) -> str:
    if any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        return "a .pt file is Meta's own layout, this product reads the transformers layout (files of facebook/sam3)"
    return "copy all files of the checkpoint there, in the layout of facebook/sam3"


def _from_hub(model: str, token: str | None) -> Path:
    match = _HUB_ID.fullmatch(model)
    assert match is not None
    repo, revision = match["repo"], match["revision"]
    cached = _cached(repo, revision)
    if cached is not None:
        return cached
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                repo, revision=revision, token=token, allow_patterns=list(_HUB_FILES), library_name="sam3-prelabel"
            )
        )
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        httpx.HTTPError,
        OSError,
    ) as error:
        raise ModelUnavailable(_hub_sentence(repo, revision, token, error)) from error
    missing = missing_files(folder)
    if missing:
        raise ModelUnavailable(
            f"the hub repository {repo} has no {' and no '.join(missing)}; it is no SAM 3 checkpoint"
        )
    return folder


def _cached(repo: str, revision: str | None) -> Path | None:
    """The complete copy in the hub's cache, or None."""
    try:
        folder = Path(huggingface_hub.snapshot_download(repo, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None
    return None if missing_files(folder) else folder


def _hub_sentence(repo: str, revision: str | None, token: str | None, error: Exception) -> str:
    """What a person must do about a failed download."""
    if isinstance(error, GatedRepoError):
        if token is None:
            return (
                f"the hub repository {repo} is gated: ask for access at https://huggingface.co/{repo} "
                "and set HF_TOKEN to your token"
            )
        return (
            f"the token has no access to the gated hub repository {repo}: ask for it at https://huggingface.co/{repo}"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"the hub repository {repo} has no revision {revision}; check SAM3_MODEL"
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub has no repository {repo}, or your token may not see it; check SAM3_MODEL and HF_TOKEN"
    if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
        return (
            f"{repo} is not in the local cache and the hub cannot be reached; go online once, "
            "or set SAM3_MODEL to a folder with the files"
        )
    if isinstance(error, HFValidationError):
        return f"SAM3_MODEL={repo} is neither a folder nor a hub id"
    detail = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (
        f"downloading {repo} from the hub failed ({detail}); try again, or set SAM3_MODEL to a folder with the files"
    )


def _fingerprint(folder: Path) -> str:
    """8 hex digits of SHA-256 over the size and 64 evenly spread samples of 64 KiB of each weight file.

    A small file is read whole; a 3.4 GB one costs 4 MiB of reading. Empty when there is nothing to read.
    """
    digest = hashlib.sha256()
    try:
        for file in weight_files(folder):
            digest.update(str(file.stat().st_size).encode())
            for sample in _samples(file):
                digest.update(sample)
    except (OSError, ModelUnavailable):
        return ""
    return digest.hexdigest()[:8]


def _samples(file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= 4 * _SAMPLES * _SAMPLE_BYTES:
            yield stream.read()
            return
        for index in range(_SAMPLES):
            stream.seek(index * (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
            yield stream.read(_SAMPLE_BYTES)
