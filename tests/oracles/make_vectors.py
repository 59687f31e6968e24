"""Write secrets/vectors/ anew: python tests/oracles/make_vectors.py. Needs age, node and npm.

The strings come out the same each time; sealed files don't, because age uses random numbers.
"""

import base64
import hashlib
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from nacl import bindings

sys.path.insert(0, str(Path(__file__).parents[1]))

from bento_secrets import armor, bech32
from bento_secrets.identities import age_identity_of_seed
from bento_secrets.recipients import Recipient
from bento_secrets.sealing import Plaintext, seal
from bento_secrets.ssh_keys import SshPublicKey
from oracles import seeds, typage
from rig.age_passphrase import protect

FOLDER = Path(__file__).parents[2] / "secrets" / "vectors"
P = 2**255 - 19
HOST, OTHER, RSA, RSA_4096 = "bento vector 1", "bento vector 2", "bento vector rsa 2048", "bento vector rsa 4096"
ED25519 = [f"bento vector {number}" for number in range(1, 9)]
ORDER_8 = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
# The eight points of the ed25519 curve whose order divides 8 (y with the sign of x in the highest bit).
LOW_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]
# The u of the two points of order 8 on the Montgomery curve.
ORDER_8_U = [
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
]


def line(kind: str, *parts: bytes) -> str:
    blob = b"".join(struct.pack(">I", len(part)) + part for part in (kind.encode(), *parts))
    return f"{kind} {base64.b64encode(blob).decode()}"


def mpint(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def recipient_of(seed: str) -> Recipient:
    return Recipient.of_host_key(SshPublicKey.parse(seeds.public_line(seeds.key_of(seed))))


def is_on_curve(y: int) -> bool:
    d = -121665 * pow(121666, -1, P) % P
    x2 = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    return x2 == 0 or pow(x2, (P - 1) // 2, P) == 1


def accepted() -> list[dict[str, Any]]:
    found = []
    for seed in [*ED25519, RSA, RSA_4096]:
        key = seeds.key_of(seed)
        one = {"seed": seed, "ssh": seeds.public_line(key), "recipient": recipient_of(seed).text}
        if seed in ED25519:
            identity = age_identity_of_seed(hashlib.sha256(seed.encode()).digest())
            one["identity_sha256"] = hashlib.sha256(identity.encode()).hexdigest()
        found.append(one)
    return found


def refused_keys() -> list[dict[str, str]]:
    sound = SshPublicKey.parse(seeds.public_line(seeds.key_of(HOST))).fields()[0]
    found = [("low order", line("ssh-ed25519", bytes.fromhex(point))) for point in LOW_ORDER]
    found += [("not canonical", line("ssh-ed25519", y.to_bytes(32, "little"))) for y in range(P, 2**255)]
    torsion = ORDER_8
    for _ in range(7):
        mixed = bindings.crypto_core_ed25519_add(sound, torsion)
        found.append(("mixed order", line("ssh-ed25519", mixed)))
        torsion = bindings.crypto_core_ed25519_add(torsion, ORDER_8)
    off = [y for y in range(2, 30) if not is_on_curve(y)]
    found += [("off the curve", line("ssh-ed25519", y.to_bytes(32, "little"))) for y in off]
    e = mpint(65537)
    found += [
        ("RSA below 2048 bits", line("ssh-rsa", e, mpint(seeds.number("bento weak", 1024)))),
        ("RSA above 4096 bits", line("ssh-rsa", e, mpint(seeds.number("bento large", 8192)))),
        ("RSA with an even modulus", line("ssh-rsa", e, mpint(seeds.number("bento even", 2048) - 1))),
        ("DSA", line("ssh-dss", *(mpint(seeds.number(f"bento dss {part}", 1024)) for part in "pqgy"))),
        ("FIDO token", line("sk-ssh-ed25519@openssh.com", sound, b"ssh:")),
    ]
    for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()):
        key = ec.derive_private_key(int.from_bytes(hashlib.sha256(b"bento ecdsa").digest(), "big"), curve)
        found.append(("ECDSA", key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()))
    return [{"why": why, "ssh": text} for why, text in found]


def refused_recipients() -> list[dict[str, str]]:
    found = [("low order", bech32.encode("age", u.to_bytes(32, "little"))) for u in (0, 1, P - 1, *ORDER_8_U)]
    found += [("not canonical", bech32.encode("age", u.to_bytes(32, "little"))) for u in (P, P + 1, P + 9, 2**255 + 9)]
    sound = recipient_of(HOST).text
    found += [
        ("wrong checksum", sound[:-1] + ("q" if sound[-1] != "q" else "p")),
        ("mixed case", sound[:-1] + sound[-1].upper() if sound[-1].isalpha() else sound[:10] + sound[10:].upper()),
        ("a byte too many", bech32.encode("age", bytes(32) + b"\x09")),
        ("a plugin named by a path", bech32.encode("age1../../tmp/x", b"x")),
    ]
    return [{"why": why, "recipient": text} for why, text in found]


def by_age(plaintext: bytes, *arguments: str) -> bytes:
    return subprocess.run(["age", "-e", *arguments], input=plaintext, capture_output=True, check=True).stdout


def sealed(folder: Path) -> list[dict[str, Any]]:
    script = typage.install(folder)
    host, other, rsa = recipient_of(HOST), recipient_of(OTHER), recipient_of(RSA)
    (folder / "host.pub").write_text(seeds.public_line(seeds.key_of(HOST)))

    def by_typage(text: bytes) -> bytes:
        task = {"do": "seal", "recipients": [host.text, other.text], "plaintext": base64.b64encode(text).decode()}
        return base64.b64decode(typage.run(script, [task])[0])

    makers: list[tuple[str, list[str], Any]] = [
        ("x25519-by-bento", [HOST], lambda text: seal(Plaintext(text), [host])),
        ("two-by-bento", [HOST, RSA], lambda text: seal(Plaintext(text), [host, rsa])),
        ("empty-by-bento", [HOST], lambda _: seal(Plaintext(b""), [host])),
        ("x25519-by-age", [HOST, OTHER], lambda text: by_age(text, "-r", host.text, "-r", other.text)),
        ("rsa-by-age", [RSA], lambda text: by_age(text, "-r", rsa.text)),
        ("two-by-typage", [HOST, OTHER], by_typage),
    ]
    found = []
    for name, to, make in makers:
        plaintext = b"" if name.startswith("empty") else f"vector {name}\n".encode()
        (FOLDER / "sealed" / f"{name}.txt").write_bytes(armor.arm(make(plaintext)))
        found.append({"file": f"sealed/{name}.txt", "to": to, "plaintext": plaintext.decode()})
    native = by_age(b"vector native-by-age\n", "-R", str(folder / "host.pub"))
    stanzas = b"".join(b"-> X25519 %s\n%s\n" % (b"A" * 43, b"A" * 43) for _ in range(34))
    refused = {
        "native-by-age": (native, "age's own ssh-ed25519 stanza, which only an admin's identity opens (import)"),
        "passphrase": (protect(b"x", "correct horse"), "a scrypt stanza"),
        "stanzas": (b"age-encryption.org/v1\n" + stanzas + b"--- " + b"A" * 43 + b"\n" + bytes(32), "34 stanzas"),
    }
    for name, (content, why) in refused.items():
        (FOLDER / "sealed" / f"{name}.txt").write_bytes(armor.arm(content))
        found.append({"file": f"sealed/{name}.txt", "to": [], "refused": why})
    return found


def main() -> None:
    (FOLDER / "sealed").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        vectors = {
            "format": 1,
            "accepted": accepted(),
            "refused_keys": refused_keys(),
            "refused_recipients": refused_recipients(),
            "sealed": sealed(Path(folder)),
        }
    (FOLDER / "vectors.json").write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
