# A hospital's node as an image. The build needs no package index: beside this file lies a folder
# `wheels`, filled as docs/deploy.md says under "Without the internet".
#
#   docker build --file node.Dockerfile --tag fedward-node .

ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
# Sources of records beyond text files: "[parquet]", "[sql]", "[dicom]", or several with commas.
ARG EXTRAS=""
COPY wheels /wheels
RUN python -m venv /opt/fedward \
    && /opt/fedward/bin/pip install --no-cache-dir --no-index --find-links /wheels "fedward${EXTRAS}"

FROM ${BASE}
RUN groupadd --gid 10001 fedward \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin fedward
COPY --from=build /opt/fedward /opt/fedward
ENV PATH=/opt/fedward/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
# The hospital's folder is mounted here; nothing of it is in the image.
WORKDIR /srv/fedward
STOPSIGNAL SIGTERM
ENTRYPOINT ["fedward"]
CMD ["client", "up", "/srv/fedward/hospital.yaml"]
