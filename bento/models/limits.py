"""Every cap on untrusted input, in one place, each with its reason; secrets/bento_secrets/limits.py has its own."""

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds. Untrusted: anything a server, a mirror or a host can have written."""

    manifest: int = 2 * MIB  # 1,000 secrets with long paths and many units take about 1 MiB
    armours: int = 8  # one per signing key; a fleet rotates between two
    armour: int = 16 * KIB  # an RSA-16384 SSHSIG is about 8 KiB
    signers: int = 64  # that a heartbeat names; a fleet has a few admins
    secrets: int = 1000  # per host
    units: int = 32  # per secret
    templates: int = 100  # per host; each a configuration file
    template: int = 64 * KIB  # characters of a template's text; it travels in the manifest
    args: int = 64  # Nix arguments in the settings
    inputs: int = 64  # of a flake that a host may update; large ones have about 30
    config: int = 256 * MIB  # a configuration is text; this leaves room for a firmware file
    ciphertext: int = 17 * MIB  # the secrets module's largest plaintext plus age's overhead
    declaration: int = 16 * MIB  # 1,000 secrets, and 100 templates of 64 KiB in JSON's spelling
    generation: int = 64 * MIB  # all secrets of one host together: they live in RAM
    tree_entries: int = 50_000  # files and folders in a configuration
    tree_bytes: int = 256 * MIB  # unpacked
    path: int = 1024  # bytes of one path inside a configuration
    segment: int = 255  # bytes of one name: what ext4 takes
    report: int = 512 * KIB  # a signed report that names 1,000 secrets, armour included
    log_tail: int = 16 * KIB  # what a report quotes of build and switch output
    comparison: int = MIB  # of what nvd says of two systems
    reason: int = 500  # characters
    reports: int = 2000  # files looked at in one host's reports folder
    reports_kept: int = 200  # of one host, on the server; status looks at 20, a person perhaps at more
    history: int = 10_000  # releases looked back at
    entries: int = 100_000  # names read of one folder over SFTP: a host may fill its own
    packet: int = 256 * KIB + KIB  # of one SFTP answer: OpenSSH's own cap
    ssh_packet: int = 256 * KIB  # OpenSSH's own cap
    login: int = MIB  # all that a server may send before it has let somebody in; 5 KiB are usual
    buffer: int = 8 * MIB  # that a channel may hold unread: four times the window that an honest server keeps to
    reads: int = 64  # under way at once, of 32 KiB each: 2 MiB is all that a server can make this side hold
    words: int = 200  # characters of what a server says
    lock_file: int = 4 * KIB  # another publisher's, on the server
    push_head: int = 96  # of a pushed stream's part: a digest, a space, a size, a newline
    push_silence: int = 60  # seconds that a pushed stream may stand still: this host's agent is locked meanwhile
    trigger: int = 16 * KIB  # all that a trigger socket says; an hour of signs of life is 2 KiB
    trigger_silence: float = 60.0  # it says something every 15 seconds
    trigger_time: float = 7300.0  # a run that is waited for, and one more, of an hour each
    slowest: int = 2 * KIB  # bytes a second: a server that sends less is cut off; GPRS gives twice as much


LIMITS: Final = Limits()
