# Two images from one file:
#   docker build --target api -t embedpool-api .
#   docker build --target worker -t embedpool-worker .
# Each has exactly the packages of its lock: the api has no LiteLLM, the worker no web framework,
# neither has the local model.

FROM python:3.12-slim-bookworm AS base
ENV PATH=/opt/embedpool/bin:$PATH \
    PIP_ROOT_USER_ACTION=ignore \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1
RUN groupadd --gid 10001 embedpool \
    && useradd --uid 10001 --gid embedpool --no-create-home --home-dir /var/lib/embedpool embedpool \
    && install -d -o embedpool -g embedpool /var/lib/embedpool /srv/embedpool


FROM base AS wheel
WORKDIR /src
COPY requirements/build.lock requirements/build.lock
RUN pip install --require-hashes --requirement requirements/build.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY shared shared
COPY api api
COPY worker worker
COPY cli cli
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist .


FROM base AS api-packages
COPY requirements/api.lock /locks/
RUN python -m venv /opt/embedpool \
    && /opt/embedpool/bin/pip install --require-hashes --requirement /locks/api.lock
COPY --from=wheel /dist /dist
RUN /opt/embedpool/bin/pip install --no-deps --no-index /dist/*.whl


FROM base AS worker-packages
COPY requirements/worker.lock /locks/
RUN python -m venv /opt/embedpool \
    && /opt/embedpool/bin/pip install --require-hashes --requirement /locks/worker.lock
COPY --from=wheel /dist /dist
RUN /opt/embedpool/bin/pip install --no-deps --no-index /dist/*.whl


FROM base AS api
COPY --from=api-packages /opt/embedpool /opt/embedpool
USER 10001:10001
WORKDIR /var/lib/embedpool
EXPOSE 4000
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:4000/readyz', timeout=2)"]
ENTRYPOINT ["embedpool"]
CMD ["api", "--host", "0.0.0.0"]


FROM base AS worker
COPY --from=worker-packages /opt/embedpool /opt/embedpool
USER 10001:10001
WORKDIR /var/lib/embedpool
HEALTHCHECK --interval=15s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-m", "embedpool_worker.alive"]
# A graceful stop takes up to 25 s: whoever stops this container should wait for 30.
STOPSIGNAL SIGTERM
ENTRYPOINT ["embedpool"]
CMD ["worker"]
