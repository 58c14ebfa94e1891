"""The Label Studio ML backend: tasks in, predictions out. ``backend.model`` is its front door."""
