"""How a command ends early."""


class UsageError(Exception):
    """The command line was not understood. Nothing was done."""


class StoppedError(Exception):
    """A step failed, and what would have followed was left undone."""
