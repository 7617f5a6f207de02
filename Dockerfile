# The Modeltrail server, for those who sign in. compose.yml runs it beside Kafka.
#
#   docker build -t modeltrail .
#   docker run -p 127.0.0.1:5000:5000 -v modeltrail-data:/data modeltrail
#
# The first start makes the user "admin" and prints its password, once (docker logs); or choose it:
#   docker run -e MODELTRAIL_ADMIN_PASSWORD=... -p 127.0.0.1:5000:5000 -v modeltrail-data:/data modeltrail
FROM python:3.11-slim
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE* ./
COPY api api
COPY consumers consumers
COPY eventlog eventlog
COPY producers producers
COPY schemas schemas
RUN pip install --no-cache-dir '.[kafka,server]' \
    && useradd --create-home modeltrail \
    && install -d -m 700 -o modeltrail /data
USER modeltrail
WORKDIR /data
VOLUME /data
EXPOSE 5000
ENTRYPOINT ["modeltrail"]
CMD ["serve", "--host", "0.0.0.0", "--auth", "--data", "/data"]
