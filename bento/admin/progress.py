"""What a long command says of each host while it works."""

from typing import Literal, Protocol

from bento.names import HostName

# working: something is under way. ready: that part is done, more is to come. The others are the host's end, for this
# command: done (something has changed), same (nothing has), failed.
State = Literal["working", "ready", "done", "same", "failed"]


class Say(Protocol):
    """Takes one line of progress about one host. Called from several threads."""

    def __call__(self, host: HostName, what: str, state: State = "done") -> None:
        """What is or has been done."""
