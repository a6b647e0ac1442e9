#!/bin/sh
# Makes stand-ins for the images that docker-compose.yml starts from, out of Debian's packages, where no registry can
# be reached: python:3.11-slim, redis:7, postgres:17 (with Debian's PostgreSQL), and hashicorp/terraform:1.11 where this
# machine has terraform. For `make compose-test`; needs root, podman and mmdebstrap. An image that is there already is
# left alone.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

have() { podman image exists "$1"; }

if ! have docker.io/library/python:3.11-slim; then
    # Like the slim images: without documentation, translations and the whole of perl, and apt keeps nothing.
    mmdebstrap --variant=minbase --include=usr-is-merged,python3,python3-venv,ca-certificates \
        --customize-hook='chroot "$1" apt-get purge -q -y usrmerge perl-modules-5.36' bookworm "$work/full.tar"
    mkdir "$work/root"
    tar -C "$work/root" -xf "$work/full.tar"
    for path in var/lib/apt/lists var/cache/apt usr/share/doc usr/share/man usr/share/info usr/share/locale; do
        rm -rf "$work/root/$path"
    done
    ln -sf python3 "$work/root/usr/bin/python"
    printf '%s\n' 'APT::Update::Post-Invoke { "rm -f /var/cache/apt/*.bin || true"; };' \
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };' \
        'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";' > "$work/root/etc/apt/apt.conf.d/docker-clean"
    tar -C "$work/root" -cf "$work/slim.tar" .
    podman import -c 'CMD ["python"]' "$work/slim.tar" docker.io/library/python:3.11-slim
fi

if ! have docker.io/library/redis:7; then
    podman build --network host -t docker.io/library/redis:7 - <<'BUILD'
FROM docker.io/library/python:3.11-slim
RUN groupadd --gid 999 redis && useradd --uid 999 --gid 999 redis \
    && mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial \
    && apt-get update -q && apt-get install -q -y --no-install-recommends redis-server redis-tools \
    && mkdir -p /data && chown redis:redis /data
VOLUME /data
WORKDIR /data
CMD ["redis-server"]
BUILD
fi

if ! have docker.io/library/postgres:17; then
    podman build --network host -t docker.io/library/postgres:17 - <<'BUILD'
FROM docker.io/library/python:3.11-slim
RUN groupadd --gid 999 postgres && useradd --uid 999 --gid 999 --home-dir /var/lib/postgresql postgres \
    && mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial /etc/postgresql-common \
    && printf 'create_main_cluster = false\n' > /etc/postgresql-common/createcluster.conf \
    && apt-get update -q && apt-get install -q -y --no-install-recommends postgresql \
    && ln -sf /usr/lib/postgresql/*/bin/* /usr/local/bin/ \
    && mkdir -p /var/lib/postgresql/data && chown -R 999:999 /var/lib/postgresql /var/run/postgresql
ENV PGDATA=/var/lib/postgresql/data
# What the official image's entrypoint does for this project.
RUN printf '%s\n' '#!/bin/sh' 'set -eu' \
    'if [ ! -s "$PGDATA/PG_VERSION" ]; then' \
    '  initdb --encoding=UTF8 --locale=C.UTF-8 -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth=scram-sha-256 -D "$PGDATA"' \
    '  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"' \
    '  pg_ctl -D "$PGDATA" -o "-c listen_addresses= -c unix_socket_directories=/tmp" -w start' \
    '  PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE") psql -h /tmp -U "$POSTGRES_USER" -d postgres -c "CREATE DATABASE $POSTGRES_USER"' \
    '  pg_ctl -D "$PGDATA" -m fast -w stop' \
    'fi' \
    'exec "$@" -c "listen_addresses=*"' > /usr/local/bin/docker-entrypoint.sh && chmod 755 /usr/local/bin/docker-entrypoint.sh
VOLUME /var/lib/postgresql/data
EXPOSE 5432
CMD ["postgres"]
BUILD
fi

if ! have docker.io/hashicorp/terraform:1.11 && command -v terraform > /dev/null; then
    cp "$(command -v terraform)" "$work/terraform"
    printf 'FROM scratch\nCOPY terraform /bin/terraform\nENTRYPOINT ["/bin/terraform"]\n' > "$work/Containerfile"
    podman build -t docker.io/hashicorp/terraform:1.11 -f "$work/Containerfile" "$work"
fi
