# The image carries the default model, so that a container starts without a network.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY bot bot
COPY dialogue dialogue
COPY finetune finetune
COPY storage storage
RUN python -m venv /opt/kefu && /opt/kefu/bin/pip install --no-cache-dir -c constraints.txt '.[postgres]'
ENV KEFU_PATHS__CACHE_DIR=/opt/kefu/cache
RUN /opt/kefu/bin/kefu models pull

FROM python:3.13-slim
# llama.cpp is built with OpenMP, whose run-time library the slim image lacks.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --home-dir /data --create-home kefu
COPY --from=build /opt/kefu /opt/kefu
ENV PATH=/opt/kefu/bin:$PATH \
    KEFU_PATHS__CACHE_DIR=/opt/kefu/cache \
    KEFU_PATHS__DATA_DIR=/data \
    KEFU_HTTP__HOST=0.0.0.0 \
    KEFU_TELEGRAM__WEBHOOK_HOST=0.0.0.0
USER kefu
WORKDIR /data
VOLUME /data
# Health pages, and Telegram's webhook where one is set.
EXPOSE 8642 8643
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8642/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["kefu"]
CMD ["run", "--log-json"]
