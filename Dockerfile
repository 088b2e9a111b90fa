# The service of compose.yaml. Packages come from the index that pip is set up for.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
RUN python -m venv /opt/ecowas-lc
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN /opt/ecowas-lc/bin/pip install --no-cache-dir --constraint constraints.txt pip hatchling editables \
    && /opt/ecowas-lc/bin/pip install --no-cache-dir --constraint constraints.txt --no-build-isolation \
        '.[cli,documents,search,semantic,telemetry,web]'

FROM python:3.11.14-slim-bookworm
RUN useradd --system --uid 10001 --create-home ecowas
COPY --from=build /opt/ecowas-lc /opt/ecowas-lc
ENV PATH=/opt/ecowas-lc/bin:$PATH PYTHONUNBUFFERED=1
USER ecowas
WORKDIR /home/ecowas
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["ecowas-lc"]
CMD ["serve", "--host", "0.0.0.0", "--no-link"]
