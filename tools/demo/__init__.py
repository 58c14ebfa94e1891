"""The demo checkpoint: its world as training data, its architecture, its losses."""
