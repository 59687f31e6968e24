"""What goes wrong, in words a person can act on.

This is the root of the project's one error hierarchy. It stands here because the secrets module is the lowest layer;
`bento.errors` adds what only the toolkit needs.
"""

from typing import ClassVar


class BentoError(Exception):
    """Something a person must know: a lower-case sentence that names the thing, and the next commands to type."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *hints: str) -> None:
        super().__init__(message)
        self.message = message
        self.hints = hints


class InputError(BentoError):
    """The person's input, configuration or command line is at fault; nothing was done."""

    exit_code = 2


class BadName(InputError, ValueError):
    """A name, digest or number that doesn't follow its rule. A ValueError too, so parsers can say where it stood."""


class OpenFailed(BentoError):
    """A sealed file that could not be opened with the identities at hand."""


class PluginFailed(BentoError):
    """An age plugin isn't installed, or failed at its work."""


class GeneratorFailed(BentoError):
    """The command that should have made a secret failed, or made none."""


class RuntimeUnsafe(InputError):
    """The runtime folder is not a RAM mount of its own, so plaintext must not be written there."""


class StoreFailed(BentoError):
    """The secret store could not be read or written here: no room, no permission, somebody else writing."""


class RuntimeFailed(BentoError):
    """The runtime folder is a RAM mount, but the work in it failed: no room, a file that should be there isn't."""


class LinkRefused(BentoError):
    """A secret's link can't be made where it was asked for, because something else stands there."""
