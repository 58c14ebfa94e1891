"""The GPUs of this machine. ``python -m sam3_core.engine.devices`` tells them to those who must not load torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """device: as ``SAM3_DEVICE`` takes it. name: of the card. bytes: its whole memory."""

    device: str
    name: str
    bytes: int


def gpus() -> list[Gpu]:
    """Those that torch can use, in its order; none where there are none. Imports torch."""
    import torch

    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [Gpu(f"cuda:{index}", card.name, card.total_memory) for index, card in enumerate(cards)]


def main() -> None:
    """A line of tab-separated fields for each."""
    for gpu in gpus():
        print(gpu.device, gpu.name, gpu.bytes, sep="\t")


if __name__ == "__main__":
    main()
