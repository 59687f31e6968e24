"""Every limit on what the importers read, with its reason: an admin's own folder may still hold anything."""

from dataclasses import dataclass

from bento_secrets.limits import KIB, LIMITS, MIB


@dataclass(frozen=True)
class ImportLimits:
    """Sizes in bytes unless a comment says otherwise."""

    # A walk that meets more has been pointed at the wrong folder, such as /.
    MAX_ENTRIES: int = 50_000  # files and folders
    # secrets.toml takes some 5,000 declarations.
    MAX_SECRETS: int = 5_000  # found in one folder
    # agenix and SOPS seal one file to every host that reads it: more than a host itself would accept.
    MAX_KEYS: int = 1_024  # keys of one file
    # 600 stanzas for RSA keys of 4096 bits. The age library's time is linear in it: about half a second.
    MAX_HEADER: int = 512 * KIB
    # A sealed secret of the largest size, as base64 with some room for the list of keys.
    MAX_FILE: int = (LIMITS.MAX_SECRET // 3 + 1) * 4 + 2 * MIB
    # YAML is slow to read: 1 MiB or 100,000 tokens a second. A file of a thousand secrets has 300 KiB, 6,000 tokens.
    MAX_YAML: int = 4 * MIB
    MAX_TOKENS: int = 200_000  # keys, values, and the marks between them
    # Beyond this a secret's name would be too long anyway (4 parts).
    MAX_DEPTH: int = 16  # maps and lists inside each other
    # What nix-instantiate prints: 5,000 rules with 20 keys each are 8 MiB.
    MAX_RULES: int = 16 * MIB
    # Rules are a few lets and lists. Longer means a loop.
    EVALUATION: float = 60.0  # seconds
    # SOPS may ask a person for a passphrase or a touch.
    DECRYPTION: float = 300.0  # seconds a file
    # All that is imported at once is in RAM at once.
    MAX_TOTAL: int = 256 * MIB


IMPORT_LIMITS = ImportLimits()
