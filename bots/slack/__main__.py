"""`python -m bots.slack`: the Slack bot alone, until SIGTERM or Ctrl-C."""

import asyncio
import contextlib
import logging
import signal
import sys

from bots.conversation import Conversation
from bots.slack.app import run_slack
from quantahr.bus import Asking
from quantahr.errors import QuantaHRError
from quantahr.settings import load_secrets, load_settings
from quantahr.store import Store


async def _run() -> None:
    settings, secrets = load_settings(), load_secrets()
    store = Store.open(settings)
    bus = Asking(settings)
    conversation = Conversation(settings, bus, store)
    running = asyncio.create_task(run_slack(settings, secrets, conversation))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        await conversation.close()
        await bus.close()
        store.close()


def main() -> None:
    """Run; a mistake in the settings ends in one sentence."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(_run())
    except QuantaHRError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
