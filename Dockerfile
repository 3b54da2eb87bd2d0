# One image for every command: `storecue up` by default. docs/deployment.md tells how to run it.
# The version of Python is the one that the tests run on.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY adapters ./adapters
COPY connector ./connector
# With the clients of both brokers: one image for every shape.
RUN python -m pip wheel --no-cache-dir --wheel-dir /wheels ".[kafka,kinesis]"

FROM python:3.11-slim-bookworm
# The data directory belongs to StoreCue before it becomes a volume: a new named volume takes that over.
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin storecue \
 && install --directory --owner=10001 --group=10001 --mode=0700 /data
# The version is the one that the first stage made: there is no other to be found.
# hadolint ignore=DL3013
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    python -m pip install --no-cache-dir --no-index --find-links=/wheels "storecue[kafka,kinesis]"
ENV PYTHONUNBUFFERED=1 \
    STORECUE_DATA=/data \
    STORECUE_HOST=0.0.0.0 \
    STORECUE_PORT=8080 \
    STORECUE_LOG_FORMAT=json
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
# Alive, and no more: a full disk must not make a supervisor restart it for ever. /readyz says whether it is ready.
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['STORECUE_PORT'] + '/healthz', timeout=2)"]
ENTRYPOINT ["storecue"]
CMD ["up", "--config", "/etc/storecue/storecue.yaml"]
