"""Errors that are the user's to mend."""

import errno


class UserError(ValueError):
    """Something given by the user is wrong.

    The message is one line that says what is wrong, where, and what to do. The command line prints it as it is and
    exits with code 2; Python code may catch it as a ``ValueError``.

    Example:
        >>> from clips4 import UserError, load_classes
        >>> try:
        ...     load_classes("cat,,dog")
        ... except UserError as error:
        ...     print(error)
        class list: empty name in 'cat,,dog'; remove a comma, or add the name
    """


class UserTypeError(UserError, TypeError):
    """An argument of another type than the function takes; also a ``TypeError``."""


def lacks_handles(error: Exception) -> bool:
    """Whether the system lets this process open no further file, so that no single file is at fault."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
