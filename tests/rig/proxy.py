"""A proxy command: a small program that passes its stdin and stdout on to a port of 127.0.0.1, and may fail at it."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

_RELAY = """\
#!{python}
import os, socket, sys, threading, time
with open({log!r}, "a") as log:
    print(os.getpid(), *sys.argv[1:], file=log)
{before}
server = socket.create_connection(("127.0.0.1", {port}))
left = {cut_after}
def up():
    while data := os.read(0, 65536):
        server.sendall(data)
    os._exit(0)
threading.Thread(target=up, daemon=True).start()
while data := server.recv(4096):
    left -= len(data)
    if left < 0:
        sys.exit("the tunnel \\x1b[31mfell in")
    while data:
        data = data[os.write(1, data):]
"""


@dataclass
class Proxy:
    """`before` is Python that runs before it connects; it ends after passing on `cut_after` bytes of the server's."""

    folder: Path
    port: int

    @property
    def program(self) -> Path:
        """The program."""
        return self.folder / "proxy"

    def write(self, *, before: str = "", cut_after: int = 1 << 40) -> None:
        """Make it, or make it anew."""
        self.program.write_text(
            _RELAY.format(
                python=sys.executable, log=str(self.folder / "log"), before=before, port=self.port, cut_after=cut_after
            )
        )
        self.program.chmod(0o755)

    @property
    def words(self) -> str:
        """What stands in trust.toml and bento.toml."""
        return json.dumps([str(self.program), "to", "%h", "[%h]:%p"])

    def calls(self) -> list[str]:
        """Its arguments, each time it was run."""
        return [line.partition(" ")[2] for line in self._log()]

    def pids(self) -> list[int]:
        """Its process id, each time it was run."""
        return [int(line.split()[0]) for line in self._log()]

    def _log(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []
