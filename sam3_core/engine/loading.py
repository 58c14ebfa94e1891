"""From a folder to modules on a device: the right class for the layout, and not one weight left to chance."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from transformers import CLIPTokenizer, Sam3ImageProcessor, Sam3Model, Sam3VideoModel
from transformers.utils.logging import disable_progress_bar

from sam3_core.engine.weights import CONFIG, weight_files
from sam3_core.errors import BadSettings, ModelUnavailable

logger = logging.getLogger(__name__)

VIDEO, DETECTOR = "sam3_video", "sam3"
_NUMBER = re.compile(r"\.\d+\.")
# Tables that the modules work out themselves; some releases saved them.
_COMPUTED = ("position_ids", "inv_freq", "freqs_cis")


class _Sam3Video(Sam3VideoModel):  # type: ignore[misc]  # untyped library
    """Stored as float32, the places of clicks are read as float32 in every dtype.

    transformers rounds them to the dtype of the position code: 0.6 pixels apart are one place in bfloat16. The two
    modules are a few thousand numbers; what comes out of them is cast by ``ClickHead``.
    """

    _keep_in_fp32_modules_strict = ("prompt_encoder", "shared_image_embedding")


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """One loaded checkpoint. video is None for checkpoints that hold the detector alone; detector is its part."""

    detector: Sam3Model
    video: Sam3VideoModel | None
    tokenizer: CLIPTokenizer
    images: Sam3ImageProcessor
    device: torch.device
    dtype: torch.dtype


def load_parts(folder: Path, device: str = "auto", dtype: str = "auto") -> Parts:
    """Load a checkpoint folder; raises ModelUnavailable or BadSettings with a sentence."""
    place = choose_device(device)
    kind = choose_dtype(dtype, place)
    model = _load_model(folder, kind).to(place).eval().requires_grad_(False)
    video = model if isinstance(model, Sam3VideoModel) else None
    detector = model if video is None else video.detector_model
    with _sentences(folder, "its image processor's file is broken"):
        images = Sam3ImageProcessor.from_pretrained(folder, local_files_only=True)
    with _sentences(folder, "its tokenizer's files are broken"):
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    _check_fit(folder, detector, images, tokenizer)
    return Parts(detector, video, tokenizer, images, place, kind)


def choose_device(setting: str) -> torch.device:
    """`auto` is the first of cuda, mps, cpu that works here. Raises BadSettings for one that does not."""
    if setting == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(setting)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise BadSettings(f"SAM3_DEVICE={setting} cannot be used here ({reason}); try `auto` or `cpu`") from None
    return device


def choose_dtype(setting: str, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 on CUDA devices that compute in it, else float32."""
    if setting == "auto":
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[setting]


def _load_model(folder: Path, dtype: torch.dtype) -> Sam3Model | Sam3VideoModel:
    kind = _model_type(folder)
    names = _tensor_names(folder)
    cls = _Sam3Video if kind == VIDEO and any(n.startswith("tracker_") for n in names) else Sam3Model
    disable_progress_bar()  # a bar per start is noise in a server's log; downloads keep theirs
    with _sentences(folder, "the weights do not fit their config.json"):
        model, report = cls.from_pretrained(folder, dtype=dtype, local_files_only=True, output_loading_info=True)
    _check_complete(folder, report)
    _check_superfluous(folder, names, model)
    return model


@contextmanager
def _sentences(folder: Path, what: str) -> Iterator[None]:
    """Whatever transformers raises on files it cannot use, as one sentence."""
    try:
        yield
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        raise ModelUnavailable(f"cannot load {folder}: {what} ({_first_line(error)})") from error


def _model_type(folder: Path) -> str:
    try:
        found = json.loads((folder / CONFIG).read_text()).get("model_type")
    except (ValueError, AttributeError) as error:
        raise ModelUnavailable(f"{folder / CONFIG} is not a model's configuration: {_first_line(error)}") from None
    if found not in (VIDEO, DETECTOR):
        raise ModelUnavailable(
            f"{folder} holds a model of type {found!r}; this product runs SAM 3, type {VIDEO!r} or {DETECTOR!r}"
        )
    return str(found)


def _tensor_names(folder: Path) -> set[str]:
    """The names of all stored tensors, from the files' headers."""
    names: set[str] = set()
    for file in weight_files(folder):
        try:
            with safetensors.safe_open(file, framework="pt") as tensors:
                names.update(tensors.keys())
        except safetensors.SafetensorError as error:
            raise ModelUnavailable(f"{file} is not a whole safetensors file: {_first_line(error)}") from error
    return names


def _check_complete(folder: Path, report: dict[str, Any]) -> None:
    """transformers fills what is missing with random numbers and only logs it; here it is an error."""
    missing = sorted(name for name in report["missing_keys"] if not name.endswith(_COMPUTED))
    if missing:
        more = f" and {len(missing) - 1} more tensors" if len(missing) > 1 else ""
        raise ModelUnavailable(
            f"the weights in {folder} lack {missing[0]}{more}; get the checkpoint in the layout of facebook/sam3"
        )


def _check_superfluous(folder: Path, names: set[str], model: torch.nn.Module) -> None:
    """Layers that the configuration does not count are an error: the model would run cut short.

    transformers does not report them, because the classes ignore each other's halves. Other names that no module
    takes are only logged: with nothing missing they are a release's computed tables or unused extras.
    """
    known = {_bare(name) for name in model.state_dict()}
    unknown = sorted(n for n in names if _bare(n) not in known and not n.endswith(_COMPUTED))
    if isinstance(model, Sam3Model):
        unknown = [name for name in unknown if not name.startswith("tracker_")]
    templates = {_NUMBER.sub(".N.", name) for name in known}
    layers = [name for name in unknown if _NUMBER.sub(".N.", _bare(name)) in templates]
    if layers:
        raise ModelUnavailable(f"the weights in {folder} have {layers[0]}, which their {CONFIG} does not count")
    if unknown:
        logger.warning("%s has %d tensors that SAM 3 does not use, such as %s", folder, len(unknown), unknown[0])


def _bare(name: str) -> str:
    """Without the prefixes that differ between files of the detector alone and of the whole model, and between
    transformers' own ways to save the tracker."""
    return name.removeprefix("detector_model.").replace("tracker_model.tracker_model.", "tracker_model.", 1)


def _check_fit(folder: Path, detector: Sam3Model, images: Sam3ImageProcessor, tokenizer: CLIPTokenizer) -> None:
    side = detector.config.vision_config.backbone_config.image_size
    if (images.size.height, images.size.width) != (side, side):
        raise ModelUnavailable(
            f"the image processor in {folder} makes {images.size.width}x{images.size.height} pixels, "
            f"the model wants {side}x{side}"
        )
    words = detector.config.text_config.vocab_size
    if len(tokenizer) > words:
        raise ModelUnavailable(f"the tokenizer in {folder} has {len(tokenizer)} tokens, the model knows {words}")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
