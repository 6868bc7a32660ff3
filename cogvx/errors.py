"""Errors that a user can fix, each with the exit code that the command line returns for it."""


class CogvxError(Exception):
    """Base of every error that is shown as one line; never raised itself."""

    exit_code = 1


class UsageError(CogvxError):
    """The request is wrong: an illegal size, an unknown name, options that exclude each other."""

    exit_code = 2


class InputError(CogvxError):
    """An input could not be used: missing, broken, or not what it should be."""

    exit_code = 3


class ShapeError(InputError):
    """A tensor has other axes than the function takes."""


class MissingError(CogvxError):
    """Something needed is missing or too small here: a package, a download, a device, memory, disk."""

    exit_code = 4


class RefusedError(CogvxError):
    """Refused for safety: a pickle, a path that leaves its folder, remote code."""

    exit_code = 5
