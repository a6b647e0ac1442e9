#!/bin/sh
# Makes, once, the secrets that nobody needs to choose: the database's password and the token of the chat page.
set -eu
for name in database_password quantahr_console_token; do
    file=/run/quantahr/keys/$name
    [ -s "$file" ] && continue
    python3 -c 'import secrets; print(secrets.token_urlsafe(32))' > "$file.new"
    mv "$file.new" "$file"
done
