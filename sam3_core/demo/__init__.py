"""The demo world: rendered scenes of coloured shapes and the phrases that name them."""
