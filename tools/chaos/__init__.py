"""A storm of requests, good and bad, against a real server; see ``python -m tools.chaos --help``."""
