"""The fake Slack and Teams for `make compose-test`, run inside of the network that the bots' container uses.

One command a line on stdin, one line of JSON on stdout: `slack 3 QUESTION` lets three people ask in Slack at once and
waits until each has an answer; `teams 1 QUESTION` likewise; `connected` waits for the bot's Socket Mode connection.
"""

import asyncio
import json
import sys
import time

from aiohttp import web

from tests.fakes.fake_connector import FakeTeams
from tests.fakes.fake_slack import FakeSlack
from tests.fakes.people import answers, until
from tests.fakes.slack_world import SlackWorld
from tests.fakes.teams_world import TeamsWorld

SLACK_PORT, TEAMS_PORT = 9001, 9002


async def main() -> None:
    slack, teams = FakeSlack(), FakeTeams()
    await slack.start(SLACK_PORT)
    await teams.start()
    await web.TCPSite(teams._runner, "127.0.0.1", TEAMS_PORT).start()  # type: ignore[arg-type]
    teams.url = f"http://127.0.0.1:{TEAMS_PORT}"
    teams.bot_url = "http://127.0.0.1:3978"
    worlds: dict[str, SlackWorld | TeamsWorld] = {"slack": SlackWorld(slack), "teams": TeamsWorld(teams)}
    print(json.dumps({"listening": True}), flush=True)
    asked = 0
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        began = time.monotonic()
        if line == "connected":
            await asyncio.wait_for(slack.connected(), 120)
            print(json.dumps({"seconds": round(time.monotonic() - began, 1)}), flush=True)
            continue
        platform, count, question = line.split(" ", 2)
        people = [worlds[platform].person(f"person{asked + number}") for number in range(int(count))]
        asked += len(people)
        await asyncio.gather(*(person.write(question) for person in people))
        await until(lambda: all(answers(person) for person in people), 150)  # noqa: B023 (awaited at once)
        await asyncio.sleep(1)  # a second answer to the same question would be seen now
        told = {
            "seconds": round(time.monotonic() - began - 1, 1),
            "answers": [len(answers(person)) for person in people],
            "sourced": sum(".docx" in answers(person)[0].sources for person in people),
            "without": sorted({said.text for p in people if ".docx" not in (said := answers(p)[0]).sources}),
            "refused": len(slack.refused) + len(teams.refused),
        }
        print(json.dumps(told), flush=True)


asyncio.run(main())
