"""The demo: a real Label Studio, our backend and a project pre-annotated before your eyes."""
