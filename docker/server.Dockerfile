# The server: Label Studio's backend and the API that the CVAT functions ask. Built from the repository's root:
#
#   docker build -f docker/server.Dockerfile -t sam3-prelabel .
#
# PyPI's torch for Linux on x86-64 brings CUDA along; the machine itself needs only the NVIDIA driver and its container
# toolkit. Weights are not in the image: they are downloaded into, or mounted under, /data. See docs/operations.md.

FROM python:3.11.14-slim-bookworm AS packages

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1

WORKDIR /opt/sam3-prelabel

# The libraries first, in a layer that only new pins make anew: some gigabytes. setuptools wants to see the version.
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY sam3_prelabel/__init__.py sam3_prelabel/
RUN python -m pip install --constraint constraints.txt '.[local,label-studio,train]'

COPY sam3_core sam3_core
COPY backend backend
COPY cvat_nuclio cvat_nuclio
COPY sam3_prelabel sam3_prelabel
RUN python -m pip install --no-deps --force-reinstall .

# What the GPU functions for CVAT are built on (cvat_nuclio/*/function-gpu.yaml) ends here: Nuclio goes on as root.

FROM packages AS server

# Fixed, so that what lies in a volume stays readable for the next image.
RUN groupadd --gid 10001 sam3 \
    && useradd --uid 10001 --gid 10001 --create-home sam3 \
    && install -d -o 10001 -g 10001 /data
USER 10001:10001
WORKDIR /home/sam3

ENV HF_HOME=/data/huggingface \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME /data
EXPOSE 9090

# Alive, not ready: weights may load for minutes, and a container that is ended meanwhile begins again.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9090/', timeout=4)"]

# No shell in between: SIGTERM reaches the server, which answers what it works on before it ends.
ENTRYPOINT ["sam3-prelabel"]
CMD ["serve", "--host", "0.0.0.0", "--port", "9090"]
