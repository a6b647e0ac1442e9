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
# A new state folder begins with the vectors of the sample handbook, which the worker's image brings along.
vectors=/usr/local/share/quantahr/embeddings.db
kept=$QUANTAHR_STATE_DIR/embeddings.db
if [ -f "$vectors" ] && [ ! -e "$kept" ]; then
    cp "$vectors" "$kept.$$" && mv -n "$kept.$$" "$kept"
    rm -f "$kept.$$"
fi
exec "$@"
