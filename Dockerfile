# One image for all services of compose.yaml: the Prefect server, the deployer and the worker. The
# server runs from it too, because it works with the pinned versions only (see pyproject.toml).

ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build

# pip's own settings, for a network with a package index of its own: given with --build-arg, they
# stay in this stage, and no layer of the image contains them.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
ARG PIP_TRUSTED_HOST
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1

WORKDIR /opt/validibot-maintenance

# pip and the build backend live in /opt/build, which is left behind. The lock is complete, hence
# --no-deps.
COPY requirements.lock requirements-runtime.lock ./
RUN awk '/^[^ #]/ { wanted = /^(editables|hatchling|packaging|pathspec|pluggy|trove-classifiers)==/ } \
        wanted' requirements.lock > /tmp/build.lock \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --no-deps -r /tmp/build.lock \
    && python -m venv --without-pip /opt/venv \
    && /opt/build/bin/pip --python /opt/venv/bin/python install \
        --no-compile --require-hashes --no-deps -r requirements-runtime.lock

# Installed where it is, beside prefect.yaml, which `python -m deployments` reads.
COPY pyproject.toml prefect.yaml LICENSE ./
COPY flows flows
COPY tasks tasks
COPY maintenance maintenance
COPY deployments deployments
COPY demo demo
# Without byte code every run takes a second longer to start. Some packages ship templates that only
# look like Python, hence the `true`.
RUN /opt/build/bin/pip install --no-build-isolation --no-deps --prefix /opt/venv --editable . \
    && { /opt/venv/bin/python -m compileall -qq -j 0 /opt/venv/lib . || true; }


FROM ${PYTHON_IMAGE}

LABEL org.opencontainers.image.title="Validibot Maintenance" \
    org.opencontainers.image.description="Validibot's housekeeping as Prefect flows" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.licenses="Apache-2.0"

# A worker must be allowed to write to Validibot's storage: compose.yaml can run it as another user.
ARG USER_ID=1000
ARG GROUP_ID=1000
RUN groupadd --gid "$GROUP_ID" maintenance \
    && useradd --uid "$USER_ID" --gid "$GROUP_ID" --no-create-home --home-dir /var/lib/prefect maintenance \
    && install -d -o maintenance -g maintenance /var/lib/prefect /app/storage

COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/validibot-maintenance /opt/validibot-maintenance

# Prefect's command line, with the secrets that are in files.
RUN printf '#!/bin/sh\nexec python -m deployments.prefect_command "$@"\n' > /opt/prefect \
    && install -D --mode 755 /opt/prefect /opt/bin/prefect && rm /opt/prefect

# Deployments start their runs with `python`: the first one on the PATH is ours.
ENV PATH=/opt/bin:/opt/venv/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin \
    PREFECT_HOME=/var/lib/prefect \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false

WORKDIR /opt/validibot-maintenance
USER maintenance

# The worker's own health page, on its loopback.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8080, timeout=5); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]

CMD ["python", "-m", "deployments.worker"]
