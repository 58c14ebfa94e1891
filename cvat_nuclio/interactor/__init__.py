"""The interactor as a Nuclio function: ``main.py`` and the yaml files, copied to /opt/nuclio."""
