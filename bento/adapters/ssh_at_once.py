"""What an SSH server can be sent without waiting for its answer to what was sent before: paramiko waits each time.

Every answer is looked at all the same. RFC 4253, 4252 and 4254 have the server take things in the order they come.
"""

import threading

from bento.adapters.lean import paramiko

_USERAUTH = "ssh-userauth"
# Private, and there from 3.4 to 5.1 at least. Where one is gone, paramiko waits as it always did.
_PRIVATE = {
    paramiko.auth_handler.AuthHandler: ("_request_auth", "_parse_service_accept"),
    paramiko.Transport: ("_send_user_message",),
}
_KNOWN = all(hasattr(kind, name) for kind, names in _PRIVATE.items() for name in names)


class _Authentication(paramiko.auth_handler.AuthHandler):
    """Asks for the service and for authentication by it in one go."""

    def _request_auth(self) -> None:
        super()._request_auth()  # type: ignore[misc] # private
        accepted = paramiko.Message()
        accepted.add_string(_USERAUTH)
        accepted.rewind()
        super()._parse_service_accept(accepted)  # type: ignore[misc]

    def _parse_service_accept(self, _: paramiko.Message) -> None:
        """What follows from it is under way; a server that refuses the service hangs up."""


def auth_publickey(transport: paramiko.Transport, user: str, key: paramiko.PKey) -> None:
    """As the transport's own. Raises AuthenticationException, SSHException."""
    # By which of RSA's algorithms, the server says before it accepts the service.
    if not _KNOWN or "rsa" in key.get_name():
        transport.auth_publickey(user, key)
        return
    handler, answered = _Authentication(transport), threading.Event()
    transport.auth_handler = handler
    handler.auth_publickey(user, key, answered)
    handler.wait_for_response(answered)


def start_sftp(transport: paramiko.Transport, channel: paramiko.Channel) -> None:
    """Ask for SFTP. What is sent on the channel next may follow at once; a server that says no closes it."""
    if not _KNOWN:
        channel.invoke_subsystem("sftp")
        return
    wanted = paramiko.Message()
    wanted.add_byte(paramiko.common.cMSG_CHANNEL_REQUEST)
    wanted.add_int(channel.remote_chanid)
    wanted.add_string("subsystem")
    wanted.add_boolean(True)  # an answer is wanted
    wanted.add_string("sftp")
    # The channel's own method would wait for the answer.
    transport._send_user_message(wanted)  # type: ignore[attr-defined] # noqa: SLF001
