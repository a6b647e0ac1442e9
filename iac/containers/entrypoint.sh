#!/bin/sh
# Starts a container's command with every secret named that is there: a file slack_bot_token becomes
# SLACK_BOT_TOKEN_FILE. Keys are what the installation made for itself; secrets are what its administrator put in.
set -eu
for file in /run/quantahr/keys/* /run/quantahr/secrets/*; do
    name=${file##*/}
    case "$name" in *[!a-z_]*) continue ;; esac
    [ -s "$file" ] || continue
    export "$(printf '%s' "$name" | tr 'a-z' 'A-Z')_FILE=$file"
done
exec "$@"
