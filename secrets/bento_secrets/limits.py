"""Every limit on what this package reads or makes, with its reason."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes unless a comment says otherwise."""

    # A secret is a key, a certificate or a keytab. Plaintext lives in RAM on the host, twice while a release changes.
    MAX_SECRET: int = 16 * MIB
    # The age library costs the square of the header, holding the GIL: at 16 KiB up to 57 times a good file,
    # at 10 KiB below 30 (docs/decisions/0022). One host and a dozen RSA-4096 admins fit.
    MAX_HEADER: int = 10 * KIB
    # A host and its admins, 32 at most, and the grease stanza that rage adds. 2,700 tiny ones would cost 0.9 s.
    MAX_STANZAS: int = 33  # lines
    # Each X25519 stanza costs a good file too, and both together 50 of them. So many may be large; more, 33 of X25519
    # for example, must be short.
    FEW_STANZAS: int = 16  # lines
    MAX_CROWDED_HEADER: int = 5 * KIB
    # age adds 16 bytes a 64 KiB chunk and a 16-byte nonce.
    MAX_CIPHERTEXT: int = MAX_SECRET + MAX_HEADER + 16 + (MAX_SECRET // (64 * KIB) + 1) * 16
    # A rendered template is a configuration file with some secrets in it. A host holds all of its own at once.
    MAX_RENDERED: int = 1 * MIB
    # The longest line OpenSSH takes for a 16384-bit RSA key is below 3 KiB.
    MAX_PUBLIC_KEY: int = 8 * KIB
    # An OpenSSH private key file of 16384-bit RSA is about 13 KiB.
    MAX_PRIVATE_KEY: int = 64 * KIB
    # A person's identities over all files. The age library tries each on each stanza.
    MAX_IDENTITIES: int = 64  # identities
    # Work factor of a passphrase-protected identity file, as a power of two. age writes 18, rage what takes a second;
    # 20 costs 1 GiB of memory and some seconds, and each step doubles both.
    MAX_SCRYPT: int = 20
    # age's RSA stanza: below 2048 bits is breakable, above 4096 the age library refuses.
    MIN_RSA_BITS: int = 2048  # bits
    MAX_RSA_BITS: int = 4096  # bits
    # Some 5,000 declarations; written by hand, read whole.
    MAX_SECRETS_TOML: int = 1 * MIB
    # Some 50,000 copies of about 400 bytes.
    MAX_SECRETS_LOCK: int = 32 * MIB
    # Default for a ramfs, which the kernel doesn't cap, when the caller named no size.
    MAX_RUNTIME: int = 64 * MIB
    # A writer holds the store for milliseconds. Longer means a stopped process, and a person should know.
    LOCK_PATIENCE: float = 10.0  # seconds


LIMITS = Limits()
