"""What can be wrong with what HR wrote."""

from quantahr.errors import QuantaHRError


class PeopleError(QuantaHRError):
    """A journey, template, table or command that cannot be used as it is. The message says where and what to write."""
