"""Fine-tuned weights as a small file beside the checkpoint, and the detector with them in place.

The file is safetensors. For each changed linear layer, by its name in the detector: ``NAME.A`` ``(rank, in)`` and
``NAME.B`` ``(out, rank)`` float32, of which ``scale * B @ A`` is added to the weight (LoRA, Hu et al. 2021), and
``NAME.base``, some of the weight's own values, by which other weights are recognised.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import Sam3Model

from sam3_core.errors import ModelUnavailable

FORMAT = "sam3-prelabel-adapter-1"

_SAMPLES = 32
_ALIKE = 0.02  # of a sample's size: bfloat16 rounds by 0.004, fine-tuning moves weights by more


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What is added to one linear layer's weight: down ``(rank, in)``, up ``(out, rank)``."""

    down: Tensor
    up: Tensor


def save_adapter(
    file: Path, detector: Sam3Model, changes: Mapping[str, Change], *, scale: float, weights: str
) -> None:
    """Write an adapter as a whole or not at all.

    detector: without the changes. changes: by the layer's name in it. weights: ``version_of`` the checkpoint, for
    people.
    """
    tensors: dict[str, Tensor] = {}
    for name, change in changes.items():
        tensors[f"{name}.A"] = change.down.detach().float().cpu().contiguous()
        tensors[f"{name}.B"] = change.up.detach().float().cpu().contiguous()
        tensors[f"{name}.base"] = _sample(detector.get_submodule(name).weight)
    part = file.with_name(file.name + ".part")
    save_file(tensors, part, metadata={"format": FORMAT, "scale": repr(scale), "weights": weights})
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.replace(file)


def adapted_detector(detector: Sam3Model, file: Path) -> Sam3Model:
    """The detector with an adapter's changes merged into its weights, on the same device and in the same dtype.

    All other modules are the very same, so that it costs the memory of the changed layers alone. Raises
    ModelUnavailable for a file that cannot be read or was made for other weights.
    """
    scale, changes, bases = _read(file)
    adapted = _twin(detector)
    for name, change in changes.items():
        layer = _layer(detector, name, file)
        if change.down.shape[1:] != (layer.in_features,) or change.up.shape[:1] != (layer.out_features,):
            raise ModelUnavailable(f"the adapter {file} does not fit these weights: {name} has another shape")
        if not _alike(_sample(layer.weight), bases[name]):
            raise ModelUnavailable(f"the adapter {file} was made for other weights than those that are loaded")
        added = scale * (change.up.double() @ change.down.double())
        weight = layer.weight.detach().cpu().double() + added  # here, because not every device has doubles
        merged = _twin(layer)
        merged.weight = torch.nn.Parameter(weight.to(layer.weight), requires_grad=False)
        _replace(adapted, detector, name, merged)
    return adapted.eval()


def _read(file: Path) -> tuple[float, dict[str, Change], dict[str, Tensor]]:
    """Scale, changes and samples of the base weights; raises ModelUnavailable."""
    try:
        with safetensors.safe_open(file, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelUnavailable(f"the adapter {file} cannot be read: {error}") from None
    if metadata.get("format") != FORMAT:
        raise ModelUnavailable(f"{file} is no adapter of this product's, or one of another release")
    names = sorted(name.removesuffix(".A") for name in tensors if name.endswith(".A"))
    try:
        scale = float(metadata["scale"])
        changes = {name: Change(tensors.pop(f"{name}.A"), tensors.pop(f"{name}.B")) for name in names}
        bases = {name: tensors.pop(f"{name}.base") for name in names}
    except (KeyError, ValueError) as error:
        raise ModelUnavailable(f"the adapter {file} is not whole: {error}") from None
    numbers = [tensor for one in changes.values() for tensor in (one.down, one.up)]
    whole = all(t.ndim == 2 and t.is_floating_point() and bool(t.isfinite().all()) for t in numbers)
    fits = all(one.down.shape[0] == one.up.shape[1] for one in changes.values() if whole)
    if tensors or not names or not whole or not fits or not math.isfinite(scale):
        raise ModelUnavailable(f"the adapter {file} is not whole: its tensors are not those of changed layers")
    return scale, changes, bases


def _layer(detector: Sam3Model, name: str, file: Path) -> torch.nn.Linear:
    try:
        layer = detector.get_submodule(name)
    except AttributeError:
        layer = None
    if not isinstance(layer, torch.nn.Linear):
        raise ModelUnavailable(f"the adapter {file} changes {name}, which these weights do not have")
    return layer


def _sample(weight: Tensor) -> Tensor:
    """``(k,)`` float32: values spread evenly over a weight."""
    flat = weight.detach().flatten()
    places = torch.linspace(0, flat.numel() - 1, min(_SAMPLES, flat.numel())).long()
    return flat[places.to(flat.device)].float().cpu()


def _alike(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two samples are of the same weights, whatever dtypes they went through."""
    if ours.shape != theirs.shape:
        return False
    return float((ours - theirs.float()).norm()) <= _ALIKE * float(theirs.float().norm()) + 1e-6


def _twin(module: torch.nn.Module) -> torch.nn.Module:
    """A module with the same children and parameters, each of which can be replaced without the other's notice."""
    twin = copy.copy(module)
    twin._modules, twin._parameters = dict(module._modules), dict(module._parameters)
    return twin


def _replace(adapted: torch.nn.Module, original: torch.nn.Module, name: str, layer: torch.nn.Module) -> None:
    """Put a layer under a dotted name; what lies on the way becomes a twin of the original's, once."""
    *way, last = name.split(".")
    for step in way:
        mine, theirs = adapted._modules[step], original._modules[step]
        assert mine is not None
        assert theirs is not None
        if mine is theirs:
            adapted._modules[step] = mine = _twin(theirs)
        adapted, original = mine, theirs
    adapted._modules[last] = layer
