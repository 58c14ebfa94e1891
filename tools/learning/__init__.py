"""Proof that the backend learns from reviewers: rendered scenes, a simulated reviewer, a real Label Studio."""
