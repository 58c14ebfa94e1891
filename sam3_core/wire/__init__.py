"""Prompts and results as JSON: what travels between ``RemoteSegmenter`` and a server that holds the weights.

``base`` has what all share, masks among it, ``prompts`` the bodies of requests, ``results`` those of answers. All are
pydantic models; ``docs/openapi.yaml`` describes the same for others.
"""
