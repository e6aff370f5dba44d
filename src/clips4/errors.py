"""Errors that are the user's to mend."""


class UserError(ValueError):
    """Something given by the user is wrong.

    The message is one line that says what is wrong, where, and what to do. The command line prints it as it is and
    exits with code 2; Python code may catch it as a ``ValueError``.
    """
