# The Modeltrail server. compose.yml runs it beside Kafka.
FROM python:3.11-slim
WORKDIR /src
COPY pyproject.toml README.md LICENSE* ./
COPY api api
COPY consumers consumers
COPY eventlog eventlog
COPY producers producers
COPY schemas schemas
RUN pip install --no-cache-dir '.[kafka,server]' \
    && useradd --create-home modeltrail \
    && install -d -o modeltrail /data
USER modeltrail
WORKDIR /data
VOLUME /data
EXPOSE 5000
ENTRYPOINT ["modeltrail"]
CMD ["serve", "--host", "0.0.0.0", "--data", "/data"]
