"""An admin's identities: what is read, what is asked, what opens; with a real plugin program and a real terminal."""

import copy
import os
import pickle
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyrage  # type: ignore[import-untyped]
import pytest

from bento_secrets import armor, bech32
from bento_secrets.admin_identities import load_admin_identities
from bento_secrets.declared import Attributes
from bento_secrets.errors import BentoError, InputError, OpenFailed, PluginFailed
from bento_secrets.identities import load_ssh_identity
from bento_secrets.limits import LIMITS
from bento_secrets.members import Member
from bento_secrets.names import HostName, SecretName, Target
from bento_secrets.recipients import Recipient
from bento_secrets.sealing import Plaintext, open_sealed, seal
from bento_secrets.ssh_keys import SshPublicKey
from bento_secrets.store import SecretStore
from rig import age_plugin
from rig.age_passphrase import protect
from rig.terminals import silent

PHRASE = "correct horse"


class Asked:
    """Answers `answer`, and keeps the prompts."""

    def __init__(self, answer: str = PHRASE) -> None:
        self.answer = answer
        self.prompts: list[str] = []

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return self.answer


def never(prompt: str) -> str:
    raise AssertionError(f"asked: {prompt}")


def plugin_recipient(data: bytes, name: str = "test") -> Recipient:
    return Recipient.parse(bech32.encode(f"age1{name}", data))


def plugin_line(data: bytes, name: str = "test") -> str:
    return bech32.encode(f"age-plugin-{name}-", data).upper()


@pytest.fixture(scope="session")
def locked_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys with the passphrase PHRASE, in each form that ssh-keygen writes."""
    folder = tmp_path_factory.mktemp("locked")
    for name, arguments in {
        "ed25519": ("-t", "ed25519"),
        "rsa": ("-t", "rsa", "-b", "2048"),
        "rsa-pem": ("-t", "rsa", "-b", "2048", "-m", "PEM"),
        "rsa-pkcs8": ("-t", "rsa", "-b", "2048", "-m", "PKCS8"),
    }.items():
        command = ("ssh-keygen", "-q", *arguments, "-N", PHRASE, "-f", str(folder / name))
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return folder


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Puts age-plugin-test on PATH; gives what it was run for since."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = age_plugin.install(folder, "test")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    log = program.with_name("age-plugin-test.log")
    return lambda: log.read_text().splitlines() if log.exists() else []


def test_an_age_file_may_hold_comments_and_several_identities(tmp_path: Path) -> None:
    made = [pyrage.x25519.Identity.generate() for _ in range(3)]
    file = tmp_path / "identities"
    file.write_text("# mine\r\n\n" + "".join(f"  {one}\n# next\n" for one in made))
    found = load_admin_identities([file, file], never)
    assert [one.recipient for one in found] == [Recipient(str(one.to_public())) for one in made]
    for identity in found:
        assert identity.recipient is not None
        assert open_sealed(seal(Plaintext(b"x"), [identity.recipient]), [identity]).data == b"x"


@pytest.mark.parametrize("name", ["ed25519", "rsa", "rsa-pem", "rsa-pkcs8"])
def test_a_locked_ssh_key_is_asked_for_once(locked_keys: Path, name: str) -> None:
    asked = Asked()
    found = load_admin_identities([locked_keys / name, locked_keys / ".." / locked_keys.name / name], asked)
    assert len(asked.prompts) == 1
    assert str(locked_keys / name) in asked.prompts[0]
    recipient = Recipient.parse((locked_keys / f"{name}.pub").read_text())
    sealed = seal(Plaintext(b"to a locked key"), [recipient])
    assert [open_sealed(sealed, found).data for _ in range(3)] == [b"to a locked key"] * 3
    assert len(asked.prompts) == 1


@pytest.mark.parametrize("name", ["ed25519", "rsa-pem", "rsa-pkcs8"])
@pytest.mark.parametrize("answer", ["wrong", "", "\udcff"])
def test_a_wrong_passphrase_is_said_and_not_quoted(locked_keys: Path, name: str, answer: str) -> None:
    with pytest.raises(InputError, match="passphrase") as caught:
        load_admin_identities([locked_keys / name], Asked(answer))
    assert str(locked_keys / name) in caught.value.message
    assert not answer or answer not in f"{caught.value.message}{caught.value.hints}".replace("is wrong", "")


def test_an_ssh_ed25519_key_opens_both_kinds_of_stanza(key_folder: Path) -> None:
    line = (key_folder / "ed25519.pub").read_text().strip()
    derived, native = load_admin_identities([key_folder / "ed25519"], never)
    assert derived.recipient == Recipient.parse(line)
    assert native.recipient is None
    assert derived.ssh == native.ssh
    assert derived.ssh is not None
    assert derived.ssh.blob == SshPublicKey.parse(line).blob
    theirs = pyrage.encrypt(b"age's own stanza", [pyrage.ssh.Recipient.from_str(line)])
    ours = seal(Plaintext(b"derived"), [Recipient.parse(line)])
    assert open_sealed(theirs, [native]).data == b"age's own stanza"
    assert open_sealed(ours, [derived]).data == b"derived"
    for sealed, wrong in ((theirs, derived), (ours, native)):
        with pytest.raises(OpenFailed):
            open_sealed(sealed, [wrong])


def test_rsa_keys_open_in_openssh_form_and_pem(key_folder: Path) -> None:
    for name in ("rsa", "pem"):
        (found,) = load_admin_identities([key_folder / name], never)
        assert found.recipient == load_ssh_identity(key_folder / name).recipient
        assert open_sealed(seal(Plaintext(b"x"), [found.recipient]), [found]).data == b"x"


@pytest.mark.parametrize("armored", [True, False])
def test_an_identity_file_under_a_passphrase_is_opened(tmp_path: Path, armored: bool) -> None:  # noqa: FBT001
    made = pyrage.x25519.Identity.generate()
    file = tmp_path / "identity.age"
    protected = protect(f"# created\n{made}\n".encode(), PHRASE)
    file.write_bytes(armor.arm(protected) if armored else protected)
    asked = Asked()
    (found,) = load_admin_identities([file, file], asked)
    assert found.recipient == Recipient(str(made.to_public()))
    assert len(asked.prompts) == 1
    with pytest.raises(InputError, match="is wrong"):
        load_admin_identities([file], Asked("no"))


def test_what_would_cost_minutes_is_refused_before_it_is_tried(tmp_path: Path) -> None:
    file = tmp_path / "identity.age"
    file.write_bytes(protect(b"x", PHRASE).replace(b" 2\n", b" %d\n" % (LIMITS.MAX_SCRYPT + 1), 1))
    started = time.thread_time()
    with pytest.raises(InputError, match="costs too much"):
        load_admin_identities([file], never)
    assert time.thread_time() - started < 0.5


def test_a_file_as_age_itself_protects_it_is_opened(tmp_path: Path) -> None:
    made = pyrage.x25519.Identity.generate()
    (tmp_path / "identity.age").write_bytes(pyrage.passphrase.encrypt(str(made).encode(), PHRASE))
    (found,) = load_admin_identities([tmp_path / "identity.age"], Asked())
    assert found.recipient == Recipient(str(made.to_public()))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no private key file"),
        (b"# nothing but words\n", "holds no identity"),
        (b"age17044m9wgakla6pzftf4srtl3h5mcsr85jysgt5fg23zpnta8sfdqhzn452\n", "line 1: this is a public half"),
        (b"ssh-ed25519 AAAA me\n", "line 1: this is a public half"),
        (b"# x\nAGE-SECRET-KEY-1BADBADBAD\n", "line 2: this is no age identity"),
        (b"AGE-SECRET-KEY-PQ-1QQQQ\n", "line 1: this is no age identity"),
        (b"AGE-PLUGIN-YUBIKEY-1BADBAD\n", "line 1: this plugin identity is damaged"),
        (bech32.encode("age-plugin-../../tmp/x-", b"").upper().encode(), "this plugin identity is damaged"),
        (b"\xff\xfe\x00", "neither an age identity file nor an SSH private key"),
        (b"#" * (LIMITS.MAX_PRIVATE_KEY + 1), "no private key file"),
        (armor.BEGIN + b"\nnonsense!\n-----END AGE ENCRYPTED FILE-----\n", "damaged age file"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key that Bento can read"),
    ],
)
def test_other_files_are_refused_by_name_and_never_quoted(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "identity"
    file.write_bytes(content)
    with pytest.raises(InputError, match=why) as caught:
        load_admin_identities([file], never)
    assert str(file) in caught.value.message
    assert "BADBAD" not in f"{caught.value.message}{caught.value.hints}"


def test_a_file_sealed_to_a_recipient_is_no_identity_file(tmp_path: Path) -> None:
    file = tmp_path / "sealed.age"
    file.write_bytes(seal(Plaintext(b"x"), [Recipient(str(pyrage.x25519.Identity.generate().to_public()))]))
    with pytest.raises(InputError, match="not with a passphrase"):
        load_admin_identities([file], never)


def test_too_many_identities_and_odd_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "many"
    file.write_text("".join(f"{pyrage.x25519.Identity.generate()}\n" for _ in range(LIMITS.MAX_IDENTITIES + 1)))
    os.mkfifo(tmp_path / "fifo")
    for name, why in (("many", "more than Bento tries"), ("fifo", "no private key file"), ("absent", "no such file")):
        with pytest.raises(InputError, match=why):
            load_admin_identities([tmp_path / name], never)


def test_an_identity_never_shows(key_folder: Path, locked_keys: Path) -> None:
    for identity in load_admin_identities([key_folder / "ed25519", locked_keys / "rsa"], Asked()):
        assert "SECRET" not in repr(identity).upper()
        assert PHRASE not in repr(identity)
        for escape in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                escape(identity)


def test_a_plugin_seals_and_opens(tmp_path: Path, plugin: Callable[[], list[str]]) -> None:
    file = tmp_path / "identity"
    file.write_text(f"{plugin_line(b'plain')}\n{plugin_line(b'plain too')}\n")
    host = pyrage.x25519.Identity.generate()
    both = [plugin_recipient(b"plain"), plugin_recipient(b"plain too"), Recipient(str(host.to_public()))]
    sealed = seal(Plaintext(b"by token"), both)
    assert sealed.count(b"-> test ") == 2
    assert plugin() == ["--age-plugin=recipient-v1"]
    (found,) = load_admin_identities([file], never)
    assert open_sealed(sealed, [found]).data == b"by token"
    assert pyrage.decrypt(sealed, [host]) == b"by token"
    other = seal(Plaintext(b"x"), [plugin_recipient(b"somebody else's")])
    with pytest.raises(OpenFailed):
        open_sealed(other, [found])


def test_a_token_is_not_asked_for_what_another_identity_opens(
    tmp_path: Path, key_folder: Path, plugin: Callable[[], list[str]]
) -> None:
    (tmp_path / "identity").write_text(plugin_line(b"pin"))
    sealed = seal(Plaintext(b"x"), [plugin_recipient(b"pin"), Recipient.parse((key_folder / "rsa.pub").read_text())])
    found = load_admin_identities([tmp_path / "identity", key_folder / "rsa"], never)
    assert open_sealed(sealed, found).data == b"x"
    assert "--age-plugin=identity-v1" not in plugin()


def test_the_store_takes_a_plugin_admin_and_reads_its_lock_again(
    store: SecretStore, identity: object, member: Callable[..., Member], plugin: Callable[[], list[str]]
) -> None:
    admin = plugin_recipient(b"plain")
    target, name = Target.parse("web"), SecretName.parse("db")
    store.add(
        target, name, Attributes(), Plaintext(b"x"), [member("web")], [admin], replace=False, now=int(time.time())
    )
    assert admin.text in store.read().lock[HostName("web"), name].recipients


@pytest.mark.parametrize(("data", "why"), [(b"broken", "the token is broken"), (b"dead", "died")])
def test_a_plugin_that_fails_seals_nothing(plugin: Callable[[], list[str]], data: bytes, why: str) -> None:
    with pytest.raises(BentoError, match=why):
        seal(Plaintext(b"x"), [plugin_recipient(data), Recipient(str(pyrage.x25519.Identity.generate().to_public()))])


def test_a_plugin_that_is_not_installed_is_named(tmp_path: Path) -> None:
    (tmp_path / "identity").write_text(plugin_line(b"x", "absent"))
    with pytest.raises(PluginFailed, match="age-plugin-absent isn't installed") as opening:
        load_admin_identities([tmp_path / "identity"], never)
    with pytest.raises(PluginFailed, match="age-plugin-absent isn't installed"):
        seal(Plaintext(b"x"), [plugin_recipient(b"x", "absent")])
    assert opening.value.hints == ("install it, and see that it is found: command -v age-plugin-absent",)


def test_a_host_key_never_becomes_a_plugin_recipient(key_folder: Path) -> None:
    for name in ("ed25519", "rsa"):
        key = SshPublicKey.parse((key_folder / f"{name}.pub").read_text())
        assert Recipient.of_host_key(key).kind != "plugin"
    with pytest.raises(InputError):
        SshPublicKey.parse(plugin_recipient(b"x").text)


OPEN = """
import sys
from pathlib import Path
from bento_secrets.admin_identities import load_admin_identities
from bento_secrets.errors import BentoError
from bento_secrets.sealing import open_sealed
try:
    found = load_admin_identities([Path(sys.argv[1])], input)
    print("opened", open_sealed(Path(sys.argv[2]).read_bytes(), found).data.decode())
except BentoError as error:
    print("refused", error)
"""


def in_terminal(arguments: list[str], typed: bytes, after: bytes) -> bytes:
    """What a program shows on a terminal of its own, where `typed` is typed once it has shown `after`."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", OPEN, *arguments])  # noqa: S606
    shown, deadline, keys = b"", time.monotonic() + 120, typed
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 5)[0]:
            if keys == b"\x03" and not typed:  # one that comes just before Python reads is lost
                os.write(terminal, keys)
            continue
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the other end has closed
            break
        if typed and after in shown:
            if b"PIN" in after:
                silent(terminal)
            os.write(terminal, typed)
            typed = b""
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(terminal)
    os.waitpid(pid, 0)
    return shown


@pytest.mark.parametrize(
    ("data", "typed", "after", "result"),
    [
        (b"pin", b"1234\n", b"PIN of the test token:", b"opened by token"),
        (b"pin", b"9999\n", b"PIN of the test token:", b"couldn't use an identity: wrong PIN"),
        (b"pin", b"\x04", b"PIN of the test token:", b"couldn't use an identity: wrong PIN"),
        (b"pin", b"\x03", b"PIN of the test token:", b"refused"),
        (b"touch", b"y\n", b"touched? [y: touched, n: skip]", b"opened by token"),
        (b"touch", b"n\n", b"touched? [y: touched, n: skip]", b"couldn't use an identity: not touched"),
        (b"name", b"alice\n", b"name of the test token:", b"opened by token"),
    ],
)
def test_a_plugin_asks_on_the_terminal(
    tmp_path: Path, plugin: Callable[[], list[str]], data: bytes, typed: bytes, after: bytes, result: bytes
) -> None:
    (tmp_path / "identity").write_text(plugin_line(data))
    (tmp_path / "sealed").write_bytes(seal(Plaintext(b"by token"), [plugin_recipient(data)]))
    shown = in_terminal([str(tmp_path / "identity"), str(tmp_path / "sealed")], typed, after)
    assert result in shown
    assert b"1234" not in shown
    assert b"\x1b[31m" not in shown


def test_without_a_terminal_nobody_answers(tmp_path: Path, plugin: Callable[[], list[str]]) -> None:
    (tmp_path / "identity").write_text(plugin_line(b"pin"))
    (tmp_path / "sealed").write_bytes(seal(Plaintext(b"by token"), [plugin_recipient(b"pin")]))
    ran = subprocess.run(
        [sys.executable, "-c", OPEN, str(tmp_path / "identity"), str(tmp_path / "sealed")],
        input=b"1234\n",
        capture_output=True,
        start_new_session=True,
        check=True,
    )
    assert b"wrong PIN" in ran.stdout
