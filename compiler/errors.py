"""The one exception that means "the user can mend this"."""

__all__ = ["UserError"]


class UserError(Exception):
    """A bad file, argument or model. The message is one line: what is wrong, and what would do.

    The command line prints it and exits with code 2; library users catch it like any exception.
    """
