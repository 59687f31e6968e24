"""A plugin for age without a token: the file key is wrapped with what its recipient and identity both hold.

Both are Bech32 of the same bytes, which say how it behaves: `pin…` asks for the PIN 1234, `touch…` shows a message and
asks for a yes, `name…` asks for a public string, `broken…` reports an error, `dead…` dies. The protocol is C2SP's
age-plugin.
"""

import base64
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


@dataclass(frozen=True)
class Stanza:
    words: list[str]
    body: bytes


def install(folder: Path, name: str) -> Path:
    """Write `age-plugin-NAME` into `folder`, which the caller puts on PATH; it logs its runs in a file beside it."""
    program = folder / f"age-plugin-{name}"
    program.write_text(f"#!{sys.executable}\n{Path(__file__).read_text()}")
    program.chmod(0o755)
    return program


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def receive() -> Stanza:
    words = sys.stdin.readline().split()
    if not words or words[0] != "->":
        sys.exit("no stanza")
    body = ""
    while True:
        line = sys.stdin.readline().rstrip("\n")
        body += line
        if len(line) < 64:
            return Stanza(words[1:], decode(body))


def send(words: list[str], body: bytes = b"") -> None:
    text = encode(body)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    if not lines or len(lines[-1]) == 64:
        lines.append("")
    sys.stdout.write("\n".join(["-> " + " ".join(words), *lines]) + "\n")
    sys.stdout.flush()


def call(words: list[str], body: bytes = b"") -> Stanza:
    send(words, body)
    return receive()


def data_of(text: str) -> bytes:
    """The bytes in Bech32, its checksum unread: age has checked it."""
    bits = "".join(f"{CHARSET.index(character):05b}" for character in text.lower().rpartition("1")[2][:-6])
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8))


def tag(data: bytes) -> str:
    return encode(hashlib.sha256(data).digest()[:4])


def mask(key: bytes, data: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(key, hashlib.sha256(b"wrap" + data).digest(), strict=False))


def refusal(data: bytes) -> str | None:
    """Ask what `data` says is to be asked; why the answer won't do, or None."""
    if data.startswith(b"broken"):
        return "the token is broken"
    if data.startswith(b"pin"):
        answer = call(["request-secret"], b"PIN of the test token:")
        return None if (answer.words[0], answer.body) == ("ok", b"1234") else "wrong PIN"
    if data.startswith(b"name"):
        answer = call(["request-public"], b"name of the test token:")
        return None if (answer.words[0], answer.body) == ("ok", b"alice") else "wrong name"
    if data.startswith(b"touch"):
        call(["msg"], b"touch the\x1b[31m test token")
        answer = call(["confirm", encode(b"touched"), encode(b"skip")], b"touched?")
        return None if answer.words == ["ok", "yes"] else "not touched"
    return None


def wrap(commands: list[Stanza]) -> None:
    held = [data_of(one.words[1]) for one in commands if one.words[0] in ("add-recipient", "add-identity")]
    keys = [one.body for one in commands if one.words[0] == "wrap-file-key"]
    for number, data in enumerate(held):
        if data.startswith(b"broken"):
            call(["error", "recipient", str(number)], b"the token is broken")
            return
    for index, key in enumerate(keys):
        for data in held:
            call(["recipient-stanza", str(index), "test", tag(data)], mask(key, data))


def unwrap(commands: list[Stanza]) -> None:
    held = [data_of(one.words[1]) for one in commands if one.words[0] == "add-identity"]
    for one in commands:
        if one.words[0] != "recipient-stanza" or one.words[2] != "test":
            continue
        for number, data in enumerate(held):
            if tag(data) != one.words[3]:
                continue
            why = refusal(data)
            if why is None:
                call(["file-key", one.words[1]], mask(one.body, data))
            else:
                call(["error", "identity", str(number)], why.encode())
            return


def main() -> None:
    with Path(sys.argv[0] + ".log").open("a") as log:
        log.write(sys.argv[1] + "\n")
    commands: list[Stanza] = []
    while not commands or commands[-1].words[0] != "done":
        commands.append(receive())
        if any(word.startswith("age1") and data_of(word).startswith(b"dead") for word in commands[-1].words):
            sys.exit(3)
    {"--age-plugin=recipient-v1": wrap, "--age-plugin=identity-v1": unwrap}[sys.argv[1]](commands)
    send(["done"])


if __name__ == "__main__":
    main()
