# What the thin CVAT functions are built on: the adapters without torch, some hundred megabytes. From the root:
#
#   docker build -f docker/functions.Dockerfile -t cvat.sam3.base .
#
# cvat_nuclio/*/function.yaml name this image as their baseImage; `nuctl deploy` adds the handler and Nuclio's own parts.

# The Python that function.yaml names as its runtime.
FROM python:3.11.14-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1

WORKDIR /opt/sam3-prelabel

COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY sam3_core sam3_core
COPY backend backend
COPY cvat_nuclio cvat_nuclio
COPY sam3_prelabel sam3_prelabel
RUN python -m pip install --constraint constraints.txt .

# No USER here: Nuclio goes on building as root, installs its SDK and starts its processor. On Kubernetes the function's
# securityContext sets the user of the running container.
