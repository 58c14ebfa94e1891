"""The inference core: images and prompts in, masks out. Knows no annotation platform.

Importing this package needs no torch; only ``sam3_core.engine`` does.
"""

from sam3_core.caller import Caller, Lane
from sam3_core.images import EncodedImage
from sam3_core.masks import Mask
from sam3_core.results import ConceptResult, Instance
from sam3_core.rules import Rules
from sam3_core.segmenter import Segmenter
from sam3_core.types import (
    Box,
    Concept,
    Exemplar,
    FindOptions,
    ModelInfo,
    ModelState,
    OutlineOptions,
    Point,
    VisualPrompt,
)

__all__ = [
    "Box",
    "Caller",
    "Concept",
    "ConceptResult",
    "EncodedImage",
    "Exemplar",
    "FindOptions",
    "Instance",
    "Lane",
    "Mask",
    "ModelInfo",
    "ModelState",
    "OutlineOptions",
    "Point",
    "Rules",
    "Segmenter",
    "VisualPrompt",
]
