"""The toolkit's errors. `bento_secrets.errors` holds the root, because it is the lowest layer."""

from bento_secrets.errors import BadName, BentoError, InputError

__all__ = ["BadName", "BentoError", "EnvironmentFailed", "InputError", "Refused", "WorkFailed"]


class EnvironmentFailed(BentoError):
    """Something the work needs is missing here: a program, a server, room on the disk."""


class WorkFailed(BentoError):
    """The work was tried and failed: a build, a switch, a transfer."""


class Refused(BentoError):
    """What the server offered breaks a trust rule; nothing of it was used."""

    exit_code = 6
