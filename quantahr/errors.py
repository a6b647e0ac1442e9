"""The errors of the project.

Every error that a person may meet derives from `QuantaHRError`; its message names the cause and what to do next, and
never holds document text, a question, an answer or a secret, because messages end up in logs.
"""


class QuantaHRError(Exception):
    """Something went wrong that a person can mend. The message says what, and what to do."""


class SettingsError(QuantaHRError):
    """A setting is unknown, missing or has a value that is not allowed."""


class PolicyError(QuantaHRError):
    """A policy document cannot be read."""


class ModelError(QuantaHRError):
    """A model or adapter file is missing, damaged or does not fit."""


class QueueError(QuantaHRError):
    """The queue (Redis) cannot be reached or refused the work."""


class StoreError(QuantaHRError):
    """The database cannot be reached or its schema is not the one this version needs."""
