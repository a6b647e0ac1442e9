"""The stretch of Redis between bots and workers: questions one way, events of the answer the other.

Three ideas. Everything that must happen together happens in one Lua script, so that a crash between two steps cannot
lose an accepted question or answer one twice. A worker holds a lease on the question it answers and every event it
writes is fenced by that lease, so that a worker which was thought dead cannot talk into its successor's answer. And a
question is closed exactly once: by the worker's final event or by the bot's apology, whichever comes first.

Keys (all with the prefix `qhr:`; `{id}` is the question's id):

    question:{id}   the question as JSON, until it is answered
    answer:{id}     the stream of events
    lease:{id}      token of the worker attempt that is answering, with a short time to live
    attempts:{id}   how many attempts have started
    closed:{id}     set once the last event stands in the stream
    cancel:{id}     the asker pressed Stop
    waiting         sorted set of ids not yet started, by order of arrival
    arrivals        counter behind that order
    pending:{platform}    hash id → address: accepted, not yet delivered by the bot of that platform
    worker:ready    exists while at least one worker is ready to answer
    delivering:{id} which bot process is delivering, with a short time to live
"""

from quantahr.bus.answering import Answering, Claim, LeaseLostError
from quantahr.bus.asking import Asking, Pending

__all__ = ["Answering", "Asking", "Claim", "LeaseLostError", "Pending"]
