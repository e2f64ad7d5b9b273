# The station's server in a container: no compiler, no torch, no root, nothing to write. From the repository's root:
#
#   docker build -f examples/serve.Dockerfile -t rstpm-edge-serve .
#   docker run --rm --init --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --publish 8080:8080 \
#     --env RSTPM_EDGE_TOKENS="$(cat tokens)" --volume "$PWD/models:/models:ro" rstpm-edge-serve
#   curl --data-binary @part.png -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8080/v1/inspect
#
# docs/serve.md says what tokens are; without any it does not start, since others could reach it. More options go behind
# the image's name, such as `camera:0 --product bracket` with --device /dev/video0 --group-add video.
# The health check asks whether the process answers, over HTTP: with --tls-certificate give --no-healthcheck.

FROM python:3.12-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE CHANGELOG.md ./
COPY csrc csrc
COPY rstpm_edge rstpm_edge
COPY training training
RUN python -m venv /opt/rstpm-edge \
    && /opt/rstpm-edge/bin/pip install --no-cache-dir '.[serve]' \
    && /opt/rstpm-edge/bin/pip uninstall --yes pip

FROM python:3.12-slim-bookworm
COPY --from=build /opt/rstpm-edge /opt/rstpm-edge
ENV PATH=/opt/rstpm-edge/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/v2/health/live', timeout=4)"]
ENTRYPOINT ["rstpm-edge", "serve", "--models", "/models", "--host", "0.0.0.0"]
