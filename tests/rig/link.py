"""A publisher over real sshd, whose link can be cut."""

import time
from dataclasses import dataclass
from pathlib import Path

from unit.admin.test_publish import Place

from bento.adapters.folder import PublishFolder
from bento.adapters.sftp import logged_in
from bento.adapters.sftp_keys import publisher
from bento.adapters.sftp_lock import Locking, Owner
from bento.adapters.sftp_target import SftpTarget
from bento.admin.content import Content
from bento.models.targets import SftpPlace
from bento.models.trust import Server
from bento.names import HostName
from bento_secrets.ssh_keys import SshPublicKey
from rig.sshd import INSIDE, Sshd

HOSTS = 60


@dataclass
class Link:
    """A publisher of `user`, whose server is reached through whatever port is named."""

    sshd: Sshd
    user: str
    key: Path
    place: Place
    names: list[HostName]

    def target(self, port: int, now: int | None = None) -> SftpTarget:
        server = Server("127.0.0.1", port, (SshPublicKey.parse(self.sshd.host_key_line),), 20)
        log_in = publisher(self.user, "it", self.key)
        locking = Locking(lambda: Owner("me", "mine"), lambda: int(time.time()) if now is None else now)
        return SftpTarget(
            SftpPlace(self.user, "127.0.0.1", port, INSIDE),
            lambda first: logged_in(server, log_in, 20, first=first),
            locking,
        )

    def publish(self, port: int, content: Content, now: int) -> None:
        target = self.target(port)
        with target.locked():
            self.place.publish(content, now, to=[target])

    @property
    def seen(self) -> PublishFolder:
        """The same chroots, as the server's disk has them."""
        return PublishFolder(self.sshd.publish)
