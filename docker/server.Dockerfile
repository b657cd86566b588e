# The registry's server: HTTP and the commands of those who run it. No torch, no compiler, no pip, nobody's root.
#
#   docker build --file docker/server.Dockerfile --tag adapters-server .
#
# For an image that is the same tomorrow, name the base by digest: --build-arg PYTHON=python:3.11-slim-bookworm@sha256:…
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY docker/install docker/
COPY registry registry
COPY composition composition
COPY cli cli
COPY migrations migrations
RUN docker/install /opt/adapters server,postgres,otel

FROM ${PYTHON}
# The home holds the embedded registry, or only the first token where PostgreSQL and S3 hold the rest.
RUN pip uninstall --yes --root-user-action ignore pip setuptools wheel \
    && groupadd --system --gid 10001 adapters \
    && useradd --system --uid 10001 --gid adapters --home-dir /var/lib/adapters --shell /usr/sbin/nologin adapters \
    && install --directory --owner=adapters --group=adapters --mode=0700 /var/lib/adapters
COPY --from=build /opt/adapters /opt/adapters
ENV PATH=/opt/adapters/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ADAPTERS_HOME=/var/lib/adapters
USER 10001:10001
WORKDIR /var/lib/adapters
VOLUME /var/lib/adapters
EXPOSE 8321
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-I", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8321/readyz', timeout=4)"]
ENTRYPOINT ["adapters"]
CMD ["serve", "--host", "0.0.0.0", "--behind-proxy", "--no-worker"]
