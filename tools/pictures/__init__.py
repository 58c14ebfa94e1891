"""The pictures of docs/masks.md: what each option does, on one scene, through the demo checkpoint."""
