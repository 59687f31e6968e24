"""A host reached by the admin's own ssh: his keys, his known_hosts, his ~/.ssh/config."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bento.adapters.process import Stream, converse
from bento.errors import InputError
from bento.models.trust import bracketed

BROKEN: Final = 255  # ssh's own exit code: it couldn't connect, or the connection broke
# After the person's own, because ssh takes the first value of an option.
_OURS = ("-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3")


@dataclass(frozen=True)
class Remote:
    """`login` is USER@HOST, parsed; `options` are ssh's; `agent` is how bento-agent is called there."""

    login: str
    options: tuple[str, ...]
    agent: tuple[str, ...]

    @property
    def in_url(self) -> str:
        """`login` as Nix wants it: IPv6 in brackets."""
        user, _, address = self.login.rpartition("@")
        return f"{user}@{bracketed(address)}"

    def call(self, args: Sequence[str], feed: Iterable[bytes], on_line: Callable[[Stream, str], None]) -> int:
        """Run the host's agent with `args`; as adapters/process.py's converse."""
        # ssh hands one text to the host's shell, so each word is quoted.
        command = shlex.join([*self.agent, *args])
        return converse(["ssh", "-T", *self.options, *_OURS, self.login, command], feed, on_line)


def ssh_options(environment: Mapping[str, str]) -> tuple[str, ...]:
    """What NIX_SSHOPTS says, split as a shell does. Raises InputError."""
    try:
        return tuple(shlex.split(environment.get("NIX_SSHOPTS", "")))
    except ValueError:
        raise InputError(
            "NIX_SSHOPTS can't be read: a quote isn't closed", "for example: NIX_SSHOPTS='-p 2222 -i ~/.ssh/id'"
        ) from None
