"""Segment many images with the same prompts; one that fails does not stop the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sam3_core.errors import InvalidPrompt, ModelUnavailable, Sam3Error
from sam3_core.segmenter import Segmenter
from sam3_core.types import Concept, ConceptResult, FindOptions
from sam3_prelabel.inputs import ImageFile


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one image: its bytes and one result per prompt, in order, or the problem in one sentence."""

    image: ImageFile
    data: bytes = b""
    results: tuple[ConceptResult, ...] = ()
    problem: str = ""


def read_prompts(prompts: Sequence[str]) -> dict[str, Concept]:
    """Concepts by name. ``;`` separates synonyms, and the first one is the name.

    Raises InvalidPrompt for a prompt without a word and for a name that comes twice.
    """
    concepts: dict[str, Concept] = {}
    for prompt in prompts:
        concept = Concept(phrases=tuple(prompt.split(";")))
        name = concept.phrases[0]
        if name in concepts:
            raise InvalidPrompt(f"the prompt {name!r} is given twice")
        concepts[name] = concept
    return concepts


def predict(
    segmenter: Segmenter, images: Sequence[ImageFile], concepts: Mapping[str, Concept], options: FindOptions
) -> Iterator[Outcome]:
    """One outcome per image, in order, as they are done.

    Raises ModelUnavailable or InvalidPrompt, which no other image would mend.
    """
    for image in images:
        yield _predict_one(segmenter, image, list(concepts.values()), options)


def _predict_one(
    segmenter: Segmenter, image: ImageFile, concepts: Sequence[Concept], options: FindOptions
) -> Outcome:
    try:
        data = image.path.read_bytes()
        return Outcome(image, data, tuple(segmenter.find(data, concepts, options)))
    except (ModelUnavailable, InvalidPrompt):
        raise
    except OSError as error:
        return Outcome(image, problem=f"cannot be read: {error.strerror or error}")
    except Sam3Error as error:
        return Outcome(image, problem=str(error))
