"""Segment many images with the same prompts; one that fails does not stop the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sam3_core.errors import InvalidPrompt, ModelUnavailable, Sam3Error
from sam3_core.finish import finished
from sam3_core.results import ConceptResult
from sam3_core.segmenter import Segmenter
from sam3_core.types import FindOptions
from sam3_prelabel.inputs import ImageFile
from sam3_prelabel.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one image: its bytes and one result per prompt, in order, or the problem in one sentence."""

    image: ImageFile
    data: bytes = b""
    results: tuple[ConceptResult, ...] = ()
    problem: str = ""


def predict(
    segmenter: Segmenter, images: Sequence[ImageFile], prompts: Mapping[str, Prompt], options: FindOptions
) -> Iterator[Outcome]:
    """One outcome per image, in order, as they are done.

    Raises ModelUnavailable or InvalidPrompt, which no other image would mend.
    """
    for image in images:
        yield _predict_one(segmenter, image, list(prompts.values()), options)


def _predict_one(segmenter: Segmenter, image: ImageFile, prompts: Sequence[Prompt], options: FindOptions) -> Outcome:
    try:
        data = image.path.read_bytes()
        results = segmenter.find(data, [prompt.concept for prompt in prompts], options)
        return Outcome(image, data, tuple(map(_finished, results, prompts)))
    except (ModelUnavailable, InvalidPrompt):
        raise
    except OSError as error:
        return Outcome(image, problem=f"cannot be read: {error.strerror or error}")
    except Sam3Error as error:
        return Outcome(image, problem=str(error))


def _finished(result: ConceptResult, prompt: Prompt) -> ConceptResult:
    """The result with its masks as they are drawn."""
    drawn = (replace(instance, mask=finished(instance.mask, prompt.finish)) for instance in result.instances)
    return replace(result, instances=tuple(drawn))
