"""Masks in the forms the world reads: COCO RLE, polygons, PNG."""
