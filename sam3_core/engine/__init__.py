"""The engine room: SAM 3 on transformers' classes. The only place that imports torch, and only once weights load."""

from sam3_core.engine.local import LocalSegmenter

__all__ = ["LocalSegmenter"]
