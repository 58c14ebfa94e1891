"""From the model's answer to masks in image pixels: ours and the stock processor, each in a process of its own.

    python -m benchmarks.postprocessing ours|stock|difference --size 4000x3000 --instances 100

is what `benchmarks.masks` runs; each prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.client import BenchmarkFailed
from benchmarks.shapes import Answer, Size, random_answer
from benchmarks.table import Row
from sam3_core.logits import mask_from_logits
from sam3_core.masks import Mask

_QUERIES = 2  # for each instance that is kept: 200 of SAM 3's detector, of which 100 are sure
_THRESHOLD = 0.3
_SEED = 1
_TIMED = 3  # runs of one process after the first, which shows its memory


def measure_postprocessing(size: Size, instances: int, stock_instances: int, rounds: int) -> list[Row]:
    """One row for each side. Raises BenchmarkFailed with a sentence.

    seconds: median over ``rounds`` processes. peak_MB: the most that one of them held besides what it held before.
    Both for ``instances``, scaled where the stock side got fewer. differing_pixels: mean per instance, from the stock
    masks; from logits that are stretched over the whole frame by torch; and the mean pixels of a mask.
    """
    counts = {"ours": instances, "stock": stock_instances}
    seen: dict[str, list[dict[str, Any]]] = {side: [] for side in counts}
    for _ in range(rounds):
        for side, count in counts.items():
            seen[side].append(_child(side, size, count))
    apart = _child("difference", size, stock_instances)
    rows = [_row(side, size, count, instances / count, seen[side]) for side, count in counts.items()]
    rows[0] |= {
        "speed_up": rows[1]["seconds"] / rows[0]["seconds"],
        "memory_ratio": rows[1]["peak_MB"] / rows[0]["peak_MB"],
    }
    rows[0] |= apart | {"median_box_percent": seen["ours"][0]["median_box_percent"]}
    return [{name: row.get(name) for name in rows[0]} for row in rows]


def _row(side: str, size: Size, count: int, scale: float, seen: list[dict[str, Any]]) -> Row:
    return {
        "post-processing": side,
        "image": f"{size[0]}x{size[1]}",
        "instances_run": count,
        "seconds": scale * float(np.median([second for run in seen for second in run["seconds"]])),
        "peak_MB": scale * max(run["peak"] for run in seen) / 1e6,
    }


def _child(side: str, size: Size, instances: int) -> dict[str, Any]:
    options = ["--size", f"{size[0]}x{size[1]}", "--instances", str(instances)]
    command = [sys.executable, "-m", "benchmarks.postprocessing", side, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkFailed(f"{side} with {instances} instances ended with {done.returncode}: {done.stderr[-500:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _ours(answer: Answer, size: Size) -> list[Mask]:
    scores = 1 / (1 + np.exp(-answer.logits)) / (1 + np.exp(-answer.presence))
    return [mask_from_logits(answer.masks[i], size) for i in np.flatnonzero(scores > _THRESHOLD)]


def _stock(answer: Answer) -> Callable[[slice, Size], Any]:
    """transformers' processor, for some of the queries; returns its ``(n, H, W)`` masks."""
    import torch
    from transformers import Sam3ImageProcessor
    from transformers.models.sam3.modeling_sam3 import Sam3ImageSegmentationOutput

    processor = Sam3ImageProcessor()

    def run(chosen: slice, size: Size) -> Any:
        output = Sam3ImageSegmentationOutput(
            pred_masks=torch.from_numpy(answer.masks[None, chosen]),
            pred_boxes=torch.from_numpy(answer.boxes[None, chosen]),
            pred_logits=torch.from_numpy(answer.logits[None, chosen]),
            presence_logits=torch.from_numpy(answer.presence[None]),
        )
        found = processor.post_process_instance_segmentation(output, _THRESHOLD, target_sizes=[size[::-1]])
        return found[0]["masks"]

    return run


def _measured(run: Callable[[], object]) -> dict[str, Any]:
    """peak: bytes that the process held at most in the first run, besides what it held before; a page at least, where
    free memory was enough. Linux only."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten: proc(5)
    before = _peak()
    run()
    peak = max(_peak() - before, resource.getpagesize())
    seconds = []
    for _ in range(_TIMED):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return {"peak": peak, "seconds": seconds}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _difference(answer: Answer, size: Size, instances: int) -> dict[str, Any]:
    """Mean pixels per instance."""
    import torch

    stock, counts = _stock(answer), []
    for i in range(instances):
        ours = mask_from_logits(answer.masks[i], size).full()
        theirs = stock(slice(i, i + 1), size)[0].numpy().astype(bool)
        map_ = torch.from_numpy(answer.masks[None, i : i + 1])
        plain = torch.nn.functional.interpolate(map_, size[::-1], mode="bilinear", align_corners=False)[0, 0] > 0
        counts.append([np.count_nonzero(ours != theirs), np.count_nonzero(ours != plain.numpy()), ours.sum()])
    names = ("differing_pixels", "differing_from_full_frame_logits", "pixels_of_a_mask")
    return dict(zip(names, np.mean(counts, axis=0).tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=("ours", "stock", "difference"))
    parser.add_argument("--size", required=True, help="of the image, WIDTHxHEIGHT")
    parser.add_argument("--instances", type=int, required=True)
    asked = parser.parse_args()
    width, height = (int(side) for side in asked.size.split("x"))
    size, kept = (width, height), asked.instances
    answer = random_answer(_SEED, kept, _QUERIES * kept)
    if asked.side == "difference":
        print(json.dumps(_difference(answer, size, kept)))
        return
    if asked.side == "ours":
        result = _measured(lambda: _ours(answer, size))
    else:
        stock = _stock(answer)
        stock(slice(0, 1), (8, 8))
        result = _measured(lambda: stock(slice(None), size))
    sides = answer.boxes[:kept, 2:] - answer.boxes[:kept, :2]
    print(json.dumps(result | {"median_box_percent": 100 * float(np.median(sides.prod(axis=1)))}))


if __name__ == "__main__":
    main()
