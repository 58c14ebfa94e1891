"""The other side of the comparison: a backend that encodes the image anew on every click.

    python -m benchmarks.reencoding_backend --port 9091 --model <checkpoint folder>

A stand-in, written for this benchmark, for the example backends that combine SAM with Label Studio: get_local_path
of label-studio-sdk keeps the file on disk, Pillow decodes it, the stock transformers processor and model do the whole
forward pass, masks are scaled to full size, ``mask2rle`` of label-studio-sdk encodes the best one. It reads no
labeling config and knows only clicks and brush masks, which is less than such backends do for each request.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flask import Flask, jsonify, request
from gunicorn.app.base import BaseApplication
from label_studio_sdk._extensions.label_studio_tools.core.utils.io import get_local_path
from label_studio_sdk.converter.brush import mask2rle
from numpy.typing import NDArray
from PIL import Image, ImageOps
from transformers import Sam3TrackerModel, Sam3TrackerProcessor

from sam3_core.engine.loading import choose_device, choose_dtype


class StockModel:
    """transformers' own click path: pixels in, three full-size masks out, nothing kept between calls."""

    def __init__(self, folder: Path, device: str) -> None:
        self._device = choose_device(device)
        self._dtype = choose_dtype("auto", self._device)
        self._processor = Sam3TrackerProcessor.from_pretrained(folder)
        self._model = Sam3TrackerModel.from_pretrained(folder, dtype=self._dtype).to(self._device).eval()

    def outline(
        self, image: Image.Image, points: list[list[float]], labels: list[int]
    ) -> tuple[NDArray[np.bool_], float]:
        """The best of the three masks, ``(H, W)``, and its predicted IoU. points: xy in pixels; labels: 1 or 0."""
        inputs = self._processor(
            images=image, input_points=[[points]], input_labels=[[labels]], return_tensors="pt"
        ).to(self._device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self._dtype)
        with torch.inference_mode():
            outputs = self._model(**inputs)
        masks = self._processor.post_process_masks(
            outputs.pred_masks.float().cpu(), inputs["original_sizes"].tolist()
        )[0][0]
        scores = outputs.iou_scores[0, 0]
        best = int(scores.argmax())
        return masks[best].numpy(), float(scores[best])


def create_app(model: StockModel, label_studio: str, token: str, cache: Path) -> Flask:
    """The three routes that Label Studio asks. cache: the folder in which images are kept."""
    app = Flask(__name__, static_folder=None)

    @app.get("/health")
    def health() -> Any:
        return jsonify({"status": "UP"})

    @app.post("/setup")
    def setup() -> Any:
        return jsonify({"model_version": "reencoding"})

    @app.post("/predict")
    def predict() -> Any:
        body = request.get_json()
        task, context = body["tasks"][0], body["params"]["context"]
        path = get_local_path(
            task["data"]["image"], cache_dir=str(cache), hostname=label_studio, access_token=token, task_id=task["id"]
        )
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        region = _answer(model, image, context["result"])
        return jsonify({"results": [{"result": [region], "score": region["score"], "model_version": "reencoding"}]})

    return app


def _answer(model: StockModel, image: Image.Image, clicks: list[dict[str, Any]]) -> dict[str, Any]:
    width, height = image.size
    points = [[click["value"]["x"] / 100 * width, click["value"]["y"] / 100 * height] for click in clicks]
    mask, score = model.outline(image, points, [int(click.get("is_positive", True)) for click in clicks])
    return {
        "id": clicks[0]["id"] + "-mask",
        "from_name": "outline",
        "to_name": "image",
        "type": "brushlabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": score,
        "value": {
            "format": "rle",
            "rle": mask2rle(mask.astype(np.uint8) * 255),
            "brushlabels": clicks[0]["value"]["keypointlabels"],
        },
    }


class _Server(BaseApplication):  # type: ignore[misc]
    """As our own server runs: one worker, threads, the model loaded in the worker."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._arguments = options
        super().__init__()

    def load_config(self) -> None:
        options = {
            "bind": f"127.0.0.1:{self._arguments.port}",
            "worker_class": "gthread",
            "threads": 8,
            "timeout": 300,
            "loglevel": "warning",
            "control_socket_disable": True,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        asked = self._arguments
        cache = Path(tempfile.mkdtemp(dir=asked.cache))
        return create_app(StockModel(asked.model, asked.device), asked.label_studio, asked.token, cache)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--label-studio", required=True, help="address the images are read from")
    parser.add_argument("--token", required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the images")
    _Server(parser.parse_args()).run()


if __name__ == "__main__":
    main()
