"""An interaction function for cvat-sdk and cvat-cli: clicks and boxes become masks.

``cvat-cli function create-native "SAM 3" --function-module cvat_nuclio.auto_interaction``, then ``run-agent`` with
the id that it prints. Settings (``SAM3_...``) say what parameters do not.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from weakref import finalize

from cvat_sdk import models
from cvat_sdk.auto_annotation import (
    InteractionFunctionContext,
    InteractionFunctionSpec,
    InteractionPrompts,
    InteractionResultAttributes,
    InteractionResultShape,
)
from PIL import Image

from cvat_nuclio.detection import score_text
from cvat_nuclio.interaction import find_alike, outline, read_prompts
from cvat_nuclio.masks import cvat_rle
from cvat_nuclio.sdk_function import Core, encoded, told_to_users
from cvat_nuclio.settings import CvatSettings
from sam3_core import EncodedImage, FindOptions
from sam3_core.caller import CLICK
from sam3_core.settings import load_settings


@dataclass(eq=False)
class Handle:
    """A picture that was shown before: its key, where its file lies while the handle lives, and its size in pixels.

    Agents keep as many as users open in ten minutes, so none may hold pixels; the core's memories are bounded.
    """

    key: str
    file: Path
    size: tuple[int, int]

    def __post_init__(self) -> None:
        finalize(self, self.file.unlink, missing_ok=True)

    def image(self) -> EncodedImage:
        return EncodedImage.deferred(self.key, self.file.read_bytes)


class Interactor:
    """A ``cvat_sdk.auto_annotation.InteractionFunction``."""

    spec = InteractionFunctionSpec(min_pos_points=0, min_neg_points=0, min_bounding_boxes=0)

    def __init__(self, core: Core) -> None:
        self._core = core
        self._folder = tempfile.TemporaryDirectory(prefix="sam3-pictures-")
        self._numbers = count()

    def preprocess_image(self, context: InteractionFunctionContext, image: Image.Image) -> Handle:
        """Warms the core for the picture. Raises BadFunctionError."""
        picture = encoded(image)
        with told_to_users():
            self._core.ask(lambda segmenter: segmenter.warm(picture, caller=CLICK))
        file = Path(self._folder.name) / f"{next(self._numbers)}.png"
        file.write_bytes(picture.data)
        return Handle(picture.key, file, picture.displayed_size(max_megapixels=self._core.settings.max_megapixels))

    def detect(
        self, context: InteractionFunctionContext, pp_image: Handle, prompts: InteractionPrompts
    ) -> list[InteractionResultShape]:
        """Masks with their confidence; none where the prompts name nothing in the picture. Raises BadFunctionError.

        Any number of boxes: newer browsers put the corners of all of them into ``bounding_box``.
        """
        body = {
            "pos_points": list(prompts.pos_points),
            "neg_points": list(prompts.neg_points),
            "obj_bbox": list(prompts.bounding_box or ()),
        }
        with told_to_users():
            asked, image = read_prompts(body, pp_image.size), pp_image.image()
            if self._core.settings.interactor == "exemplar":
                answer = self._core.ask(lambda segmenter: find_alike(segmenter, image, asked, FindOptions()))
            else:
                answer = self._core.ask(lambda segmenter: outline(segmenter, image, asked))
        return [
            InteractionResultShape(
                type="mask",
                points=[float(number) for number in cvat_rle(instance.mask)],
                attributes=[
                    models.AttributeValRequest(
                        spec_id=int(InteractionResultAttributes.CONFIDENCE), value=score_text(instance.score)
                    )
                ],
            )
            for instance in answer.instances
        ]


def create(
    mode: str | None = None, core_url: str | None = None, model: str | None = None, device: str | None = None
) -> Interactor:
    """The function, with the parameters of ``-p``. Nothing is loaded before the first picture.

    mode: outline or exemplar, over ``SAM3_INTERACTOR``; core_url, model, device: over the settings of these names.
    Raises BadFunctionError.
    """
    with told_to_users():
        return Interactor(
            Core(load_settings(CvatSettings, interactor=mode, core_url=core_url, model=model, device=device))
        )
