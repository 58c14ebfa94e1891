"""The command line: the only room that knows all the others, and puts them together."""

__version__ = "0.1.0"
