# A coordinator as an image. The build needs no package index: beside this file lies a folder
# `wheels`, filled as docs/deploy.md says under "Without the internet".
#
#   docker build --file server.Dockerfile --tag fedward-server .

ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
COPY wheels /wheels
RUN python -m venv /opt/fedward \
    && /opt/fedward/bin/pip install --no-cache-dir --no-index --find-links /wheels fedward

FROM ${BASE}
RUN groupadd --gid 10001 fedward \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin fedward
COPY --from=build /opt/fedward /opt/fedward
ENV PATH=/opt/fedward/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
# The coordinator's folder is mounted here; nothing of it is in the image.
WORKDIR /srv/fedward
STOPSIGNAL SIGTERM
ENTRYPOINT ["fedward"]
CMD ["server", "up", "/srv/fedward/server.yaml"]
