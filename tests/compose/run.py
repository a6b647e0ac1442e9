"""`make compose-test`: the containers as an administrator starts them, and people who talk to them while they are torn.

Builds, starts, asks through a fake Slack and a fake Teams, scales to two workers, kills one in the middle of answers,
restarts Redis, upgrades in place, and brings everything down. Needs root, podman and podman-compose on PATH. Each line
that it prints was seen; the first thing that does not hold ends it with 1.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fakes.fake_identity import APP_ID, PASSWORD, TENANT
from tests.fakes.fake_slack import APP_TOKEN, BOT_TOKEN

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ("podman-compose", "-p", "qhrtest", "-f", "docker-compose.yml", "-f", "tests/compose/override.yml")
QUESTION = "how many days of annual leave do I get?"
SERVICES = ("keys", "redis", "postgres", "chats", "worker", "bots", "beat")
ENVIRONMENT = {
    **os.environ,
    "BUILDAH_FORMAT": "docker",
    "FAKE_SLACK_BOT_TOKEN": BOT_TOKEN,
    "FAKE_SLACK_APP_TOKEN": APP_TOKEN,
    "FAKE_TEAMS_APP": APP_ID,
    "FAKE_TEAMS_TENANT": TENANT,
    "FAKE_TEAMS_PASSWORD": PASSWORD,
}
BEGAN = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.1f} s  {text}", flush=True)


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise SystemExit(
            f"{' '.join(command[:6])}… ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"[-4000:]
        )
    return done.stdout.strip()


def compose(*arguments: str) -> str:
    return run(*COMPOSE, *arguments)


def containers(service: str) -> list[str]:
    label = f"label=io.podman.compose.service={service}"
    return run("podman", "ps", "-q", "--filter", label, "--filter", "label=io.podman.compose.project=qhrtest").split()


def wait(what: str, condition: Callable[[], bool], seconds: float) -> float:
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise SystemExit(f"{what} did not come true in {seconds:.0f} s")
        time.sleep(0.3)
    return time.monotonic() - began


def healthy(service: str, count: int = 1) -> bool:
    """Podman without systemd runs no healthcheck by itself."""
    found = containers(service)
    return len(found) == count and all(
        subprocess.run(["podman", "healthcheck", "run", one], capture_output=True, check=False).returncode == 0
        for one in found
    )


class Chats:
    """The fakes, in the network of the bots."""

    def __init__(self) -> None:
        pid = run("podman", "inspect", "-f", "{{.State.Pid}}", *containers("chats"))
        self._process = subprocess.Popen(
            ["nsenter", "-t", pid, "-n", sys.executable, "-m", "tests.compose.chats"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.hear()

    def tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the people have gone: see the error above")
        told: dict[str, Any] = json.loads(line)
        return told

    def ask(self, platform: str, count: int = 1, meanwhile: Callable[[], object] = lambda: None) -> dict[str, Any]:
        self.tell(f"{platform} {count} {QUESTION}")
        meanwhile()
        told = self.hear()
        if told["answers"] != [1] * count or told["sourced"] != count:
            raise SystemExit(f"{platform}: {told}")
        return told

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def end() -> None:
    """Remove everything, the workers that were added too: `down` knows only the first."""
    if extra := containers("worker"):
        run("podman", "rm", "-f", "-t", "10", *extra, check=False)
    run(*COMPOSE, "down", "-v", "-t", "10", check=False)


def database(statement: str) -> str:
    command = f'PGPASSWORD=$(cat /run/quantahr/keys/database_password) psql -h 127.0.0.1 -U quantahr -tAc "{statement}"'
    return run("podman", "exec", *containers("postgres"), "sh", "-c", command)


def expect(what: str, holds: bool) -> None:
    if not holds:
        raise SystemExit(f"this does not hold: {what}")


def confined(service: str) -> None:
    """Whoever gets hold of a process in there is nobody, can write nothing but /tmp, and gains nothing."""
    inside = (
        "id -u; touch /x /app/x 2> /dev/null && echo wrote; grep -E '^(CapEff|NoNewPrivs):' /proc/self/status; true"
    )
    one = containers(service)[0]
    user, *rest = run("podman", "exec", one, "sh", "-c", inside).split()
    expect(f"{service} is not root", user != "0")
    expect(f"{service} can write and gain nothing", rest == ["CapEff:", "0000000000000000", "NoNewPrivs:", "1"])
    expect(f"{service}'s memory is limited", int(run("podman", "inspect", "-f", "{{.HostConfig.Memory}}", one)) > 0)


def no_way_out(service: str) -> str:
    """What somebody in there is told who tries to reach the internet. Nothing is sent: there is no route."""
    reach = "import socket; socket.create_connection(('1.1.1.1', 443), 5)"
    command = ["podman", "exec", containers(service)[0], "python", "-c", reach]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    expect(f"{service} cannot reach the internet", "unreachable" in done.stderr)
    return done.stderr.strip().splitlines()[-1]


def kill_a_worker() -> None:
    time.sleep(0.3)
    run("podman", "kill", containers("worker")[0])


def arrivals() -> int:
    """How many questions Redis has taken so far."""
    return int(run("podman", "exec", *containers("redis"), "redis-cli", "get", "qhr:arrivals") or 0)


def restart_redis(expected: int, frozen: list[str]) -> None:
    """In the middle of answers, when it holds all questions: who asks while it is away is told so, and asks again.

    The workers are frozen when this begins, so that they have not answered everything before."""
    try:
        wait("every question accepted", lambda: arrivals() >= expected, 60)
    finally:
        run("podman", "unpause", *frozen)
    run("podman", "restart", "-t", "10", *containers("redis"))


def stop_and_start_the_worker() -> None:
    stopped = containers("worker")
    began = time.monotonic()
    run("podman", "stop", "-t", "30", *stopped)
    seconds = time.monotonic() - began
    say(f"told to stop, the worker ended after {seconds:.1f} s")
    expect("it ends within 10 seconds", seconds <= 10)
    run("podman", "start", *stopped)


def main() -> None:
    if "--no-build" not in sys.argv:
        compose("build", "bots", "worker")
    for image in ("quantahr-bots", "quantahr-worker"):
        size = int(run("podman", "image", "inspect", "-f", "{{.Size}}", image)) / 1e6
        say(f"{image}: {size:.0f} MB")
    base = int(run("podman", "image", "inspect", "-f", "{{.Size}}", "docker.io/library/python:3.11-slim")) / 1e6
    say(f"of it the base: {base:.0f} MB")
    end()  # what an earlier run may have left
    try:
        _live()
    finally:
        if sys.exc_info()[0]:
            for service in SERVICES:
                label = f"label=io.podman.compose.service={service}"
                for one in run("podman", "ps", "-aq", "--filter", label).split():
                    print(f"--- {service}", file=sys.stderr, flush=True)
                    subprocess.run(["podman", "logs", "--tail", "12", one], stdout=sys.stderr, check=False)
        end()


def _live() -> None:
    up = time.monotonic()
    compose("up", "-d", "--no-build", *SERVICES)
    say(f"up returned after {time.monotonic() - up:.1f} s")
    chats = Chats()
    try:
        chats.tell("connected")
        chats.hear()
        chats.ask("slack")
        say(f"the first answer, in Slack, {time.monotonic() - up:.1f} s after up")
        say(f"an answer in Teams after {chats.ask('teams')['seconds']} s")
        for service in ("redis", "postgres", "worker", "bots"):
            wait(f"{service} healthy", lambda service=service: healthy(service), 60)  # type: ignore[misc]
        say("redis, postgres, worker and bots are healthy")

        for service in ("redis", "postgres", "worker", "bots", "beat"):
            confined(service)
        say("nobody in there is root, can write outside of /tmp and the volumes, or gain a right; memory is limited")
        for service in ("worker", "beat"):
            say(f"{service} has no way out: {no_way_out(service)}")

        compose("up", "-d", "--no-build", "--no-recreate", "--scale", "worker=2", "worker")
        wait("two workers", lambda: healthy("worker", 2), 90)
        say("two workers are healthy")

        told = chats.ask("slack", 40, kill_a_worker)
        say(f"a worker was killed in the middle of 40 questions: each answered once, after {told['seconds']} s")

        expected, frozen = arrivals() + 30, containers("worker")
        run("podman", "pause", *frozen)
        told = chats.ask("slack", 30, lambda: restart_redis(expected, frozen))
        say(f"redis was restarted in the middle of 30 questions: each answered once, after {told['seconds']} s")

        kept = database("select count(*) from questions")
        before = [*containers("worker"), *containers("bots")]
        compose("up", "-d", "--no-build", "--force-recreate", "--no-deps", "--scale", "worker=2", "worker", "bots")
        wait("the upgrade", lambda: healthy("worker", 2) and healthy("bots"), 120)
        expect("every container was replaced", not set(before) & {*containers("worker"), *containers("bots")})
        told = chats.ask("teams")
        say(f"upgraded in place; an answer in Teams after {told['seconds']} s; {kept} questions were kept before it")

        told = chats.ask("slack", 2, stop_and_start_the_worker)
        say(f"stopped and started amid 2 questions: each answered once, after {told['seconds']} s")
    finally:
        chats.close()

    kept = database("select count(*) from questions")
    run("podman", "rm", "-f", "-t", "10", *containers("worker"))
    compose("down", "-t", "10")
    compose("up", "-d", "--no-build", "keys", "postgres", "redis")
    wait("the database", lambda: bool(containers("postgres")) and healthy("postgres"), 60)
    if database("select count(*) from questions") != kept:
        raise SystemExit("the database forgot questions over down and up")
    say(f"after down and up all {kept} questions are there")


if __name__ == "__main__":
    if not all(map(shutil.which, ("podman", "podman-compose", "nsenter"))):
        raise SystemExit("make compose-test needs podman, podman-compose and nsenter on PATH.")
    main()
