"""Onboarding and HR's desk in Slack: commands, buttons, forms, people who join."""

import asyncio
import json
import logging
import re
from collections.abc import Collection
from typing import Any

from slack_bolt.async_app import AsyncApp

from bots.forms import Actor, Reply
from bots.office import COMMANDS
from bots.slack.desk import Desk, Json
from bots.slack.files import start
from bots.slack.people_blocks import ACTION, filled, form_view, mentions, message_blocks
from bots.slack.text import escape, preview
from quantahr.people.words import plain

log = logging.getLogger(__name__)

WRITING = "I am writing it; it will appear here."


def register(app: AsyncApp, desk: Desk) -> None:
    """Connect the listeners. Before those that take everything."""

    async def on_command(ack: Any, body: Json, respond: Any) -> None:
        await ack()
        name = str(body["command"]).removeprefix("/")
        reply = await desk.office.command(actor_of(desk, body), name, mentions(body.get("text") or ""))
        await show(desk, body, reply, respond)

    for name in COMMANDS:
        app.command(f"/{name}")(on_command)

    @app.action(re.compile(f"^{ACTION}:"))
    async def on_button(ack: Any, action: Json, body: Json, respond: Any) -> None:
        await ack()
        if await desk.first(f"action:{body.get('trigger_id')}"):
            reply = await desk.office.press(actor_of(desk, body), str(action.get("value", "")))
            await show(desk, body, reply, respond)

    @app.view(re.compile(f"^{ACTION}:"))
    async def on_form(ack: Any, body: Json, view: Json) -> None:
        name = str(view["callback_id"]).partition(":")[2]
        if wrong := desk.office.faults(name, filled(view)):
            # The form stays open with what was typed: once closed it would be gone.
            await ack(response_action="errors", errors=dict(wrong))
            return
        await ack()
        if await desk.first(f"view:{view['id']}"):
            data = json.loads(view.get("private_metadata") or "{}")
            reply = await desk.office.submit(actor_of(desk, body), name, data, filled(view))
            await show_in_dm(desk, body, reply, f"view:{view['id']}")

    @app.event("team_join")
    async def on_join(event: Json) -> None:
        user = event["user"]
        if not user.get("is_bot") and not user.get("is_restricted"):
            profile = user.get("profile") or {}
            actor = Actor("slack", desk.team, user["id"], str(profile.get("real_name") or user.get("real_name") or ""))
            await desk.office.people.arrived(actor, str(profile.get("email") or ""))

    @app.event("user_change")
    async def on_change(event: Json) -> None:
        if event["user"].get("deleted"):
            await asyncio.to_thread(desk.office.people.left, Actor("slack", desk.team, event["user"]["id"]))


def actor_of(desk: Desk, body: Json) -> Actor:
    """Who typed a command, pressed a button or sent a form."""
    user = body.get("user") or {}
    return Actor("slack", desk.team, str(body.get("user_id") or user["id"]), str(user.get("name") or ""))


async def members(desk: Desk, group: str) -> Collection[str]:
    """The users in a Slack user group."""
    answer = await desk.client.usergroups_users_list(usergroup=group)
    return list(answer["users"])


async def show(desk: Desk, body: Json, reply: Reply, respond: Any) -> None:
    """Show a reply to a command or a button, to the one who asked only."""
    if reply.form is not None:
        await desk.client.views_open(trigger_id=body["trigger_id"], view=form_view(reply.form))
    elif reply.work is not None:
        await show_in_dm(desk, body, reply, f"work:{body.get('trigger_id')}")
    elif reply.message is not None:
        message = dict(reply.message)
        await respond(
            text=preview(escape(plain(message))),
            blocks=message_blocks(message),
            response_type="ephemeral",
            replace_original=False,
        )


async def show_in_dm(desk: Desk, body: Json, reply: Reply, event: str) -> None:
    """Show a reply where there is no message to answer to: in the direct messages."""
    user = actor_of(desk, body).user
    opened = await desk.client.conversations_open(users=user)
    await say(desk, opened["channel"]["id"], user, reply, event)


async def say(desk: Desk, channel: str, user: str, reply: Reply, event: str, thread: str | None = None) -> None:
    """Show a reply in a direct conversation; forms are opened by a button there."""
    if reply.work is not None:
        posted = thread or (await desk.client.chat_postMessage(channel=channel, text=WRITING))["ts"]
        await start(desk, reply.work, channel, user, str(posted), event)
    elif reply.message is not None:
        message = dict(reply.message)
        text, blocks = preview(escape(plain(message))), message_blocks(message)
        await desk.client.chat_postMessage(channel=channel, thread_ts=thread, text=text, blocks=blocks)
    elif reply.form is not None:
        hint = "Please type this as a command, so that I can open the form: /hr-onboard or /hr-draft."
        await desk.client.chat_postMessage(channel=channel, thread_ts=thread, text=hint)
