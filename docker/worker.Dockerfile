# A worker: blends, merges and checks, with torch. PyPI's torch for Linux brings CUDA; the machine brings the driver and
# the NVIDIA container toolkit. The same image computes on a CPU where there is no GPU.
#
#   docker build --file docker/worker.Dockerfile --tag adapters-worker .
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY docker/install docker/
COPY registry registry
COPY composition composition
COPY cli cli
COPY migrations migrations
RUN docker/install /opt/adapters compose,gguf,postgres

FROM ${PYTHON}
RUN pip uninstall --yes --root-user-action ignore pip setuptools wheel \
    && groupadd --system --gid 10001 adapters \
    && useradd --system --uid 10001 --gid adapters --home-dir /var/lib/adapters --shell /usr/sbin/nologin adapters \
    && install --directory --owner=adapters --group=adapters --mode=0700 /var/lib/adapters
COPY --from=build /opt/adapters /opt/adapters
ENV PATH=/opt/adapters/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ADAPTERS_HOME=/var/lib/adapters \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /var/lib/adapters
VOLUME /var/lib/adapters
STOPSIGNAL SIGTERM
# It serves nobody: whether it does its work is in the table of jobs. Alive is all that can be asked of it here.
HEALTHCHECK NONE
ENTRYPOINT ["adapters"]
CMD ["worker"]
