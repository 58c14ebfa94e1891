"""CVAT: what its Nuclio functions and its auto-annotation functions answer with."""
