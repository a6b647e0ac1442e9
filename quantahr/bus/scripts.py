"""The Lua scripts of the bus, and the names of its keys and channels."""

from typing import Final

WAITING: Final = "qhr:waiting"
ARRIVALS: Final = "qhr:arrivals"
CANCELLED: Final = "qhr:cancelled"
OUTBOX: Final = "qhr:outbox"
READY: Final = "qhr:worker:ready"
MODELS: Final = "qhr:models"
ANNOUNCED: Final = 20
"""How many waiting askers are told their new position when a question starts."""


def question_key(question: str) -> str:
    return f"qhr:question:{question}"


def answer_key(question: str) -> str:
    return f"qhr:answer:{question}"


def lease_key(question: str) -> str:
    return f"qhr:lease:{question}"


def attempts_key(question: str) -> str:
    return f"qhr:attempts:{question}"


def closed_key(question: str) -> str:
    return f"qhr:closed:{question}"


def cancel_key(question: str) -> str:
    return f"qhr:cancel:{question}"


def pending_key(platform: str) -> str:
    return f"qhr:pending:{platform}"


def delivering_key(question: str) -> str:
    return f"qhr:delivering:{question}"


def upload_key(question: str) -> str:
    return f"qhr:upload:{question}"


# KEYS question answer pending waiting arrivals; ARGV id question-json address accepted keep queued-prefix
# Returns the number of questions ahead, or -1 if this one is known already.
ACCEPT: Final = """
if redis.call('EXISTS', KEYS[2]) == 1 then return -1 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[5])
redis.call('XADD', KEYS[2], '*', 'e', ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[5])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[3], ARGV[1], ARGV[3]) end
local ahead = redis.call('ZCARD', KEYS[4])
redis.call('ZADD', KEYS[4], redis.call('INCR', KEYS[5]), ARGV[1])
if ahead > 0 then
  redis.call('XADD', KEYS[2], '*', 'e', '{"type":"queued","position":' .. ahead .. '}')
end
return ahead
"""

# KEYS question lease attempts closed waiting answer; ARGV id token ttl-ms keep announced
# Returns {attempt, question-json}, or {0, why} if there is nothing to do.
CLAIM: Final = """
if redis.call('EXISTS', KEYS[4]) == 1 then return {0, 'closed'} end
local question = redis.call('GET', KEYS[1])
if not question then return {0, 'gone'} end
if not redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[3]) then return {0, 'leased'} end
local attempt = redis.call('INCR', KEYS[3])
redis.call('EXPIRE', KEYS[3], ARGV[4])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('XADD', KEYS[6], '*', 'e', '{"type":"started","attempt":' .. attempt .. '}')
redis.call('EXPIRE', KEYS[6], ARGV[4])
local waiting = redis.call('ZRANGE', KEYS[5], 0, tonumber(ARGV[5]) - 1)
for position, other in ipairs(waiting) do
  local stream = 'qhr:answer:' .. other
  if redis.call('EXISTS', stream) == 1 then
    redis.call('XADD', stream, '*', 'e', '{"type":"queued","position":' .. (position - 1) .. '}')
  else
    redis.call('ZREM', KEYS[5], other)
  end
end
return {attempt, question}
"""

# KEYS lease answer; ARGV token event. Returns 1, or 0 if the lease is not ours any more.
EMIT: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('XADD', KEYS[2], '*', 'e', ARGV[2])
return 1
"""

# KEYS lease; ARGV token ttl-ms. Returns 1, or 0 if the lease is not ours any more.
RENEW: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""

# KEYS lease; ARGV token.
RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""

# KEYS closed answer question lease waiting cancel; ARGV id event keep token ('' = a bot closes it)
# Returns 1, or 0 if it was closed before or the lease is not ours any more.
CLOSE: Final = """
if ARGV[4] ~= '' and redis.call('GET', KEYS[4]) ~= ARGV[4] then return 0 end
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[3]) then return 0 end
redis.call('XADD', KEYS[2], '*', 'e', ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[3])
redis.call('DEL', KEYS[3], KEYS[4], KEYS[6])
redis.call('ZREM', KEYS[5], ARGV[1])
return 1
"""

# KEYS question lease closed waiting; ARGV id queue. Is this question in need of being enqueued again?
# Returns 1 if it was lost: nobody answers it, and either it was started once or the queue that should hold it is empty.
LOST: Final = """
if redis.call('EXISTS', KEYS[3]) == 1 or redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
if redis.call('ZSCORE', KEYS[4], ARGV[1]) and redis.call('LLEN', ARGV[2]) > 0 then return 0 end
return 1
"""
