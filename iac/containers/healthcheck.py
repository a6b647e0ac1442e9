"""Whether a container does its work: `healthcheck.py worker` or `healthcheck.py bots`; ends with 0 or 1."""

import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request

FRESH_SECONDS = 20.0


def worker() -> bool:
    """This container's worker has said within the last seconds what it serves."""
    import redis

    client = redis.Redis.from_url(os.environ["QUANTAHR_REDIS_URL"], socket_timeout=3)
    lines = [json.loads(line) for line in client.hvals("qhr:workers")]
    here = socket.gethostname()
    return any(line["worker"].startswith(here) and line["at"] > time.time() - FRESH_SECONDS for line in lines)


def bots() -> bool:
    """The process that serves the chats answers; that it asks for a token is an answer."""
    address = f"http://127.0.0.1:{os.environ.get('QUANTAHR_CONSOLE__PORT', '8090')}/"
    try:
        urllib.request.urlopen(address, timeout=3).close()
    except urllib.error.HTTPError as error:
        return error.code < 500
    return True


if __name__ == "__main__":
    try:
        healthy = {"worker": worker, "bots": bots}[sys.argv[1]]()
    except Exception as error:
        print(type(error).__name__)
        healthy = False
    sys.exit(0 if healthy else 1)
