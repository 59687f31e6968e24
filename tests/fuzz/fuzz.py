"""Coverage-guided fuzzing: `python tests/fuzz/fuzz.py TARGET RUNS`. What it finds is written to ./crash-*."""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bento", "bento_secrets", "tomllib", "tarfile"]):
    from targets import TARGETS, seeds, words

LONGEST = 16384  # bytes of an input
PATIENCE = 20  # seconds that one input may take before it counts as found


def main() -> None:
    """Fuzz the target that the command line names."""
    name, runs = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="bento-corpus-") as folder:
        corpus, dictionary = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        for number, seed in enumerate(seeds(name)):
            (corpus / str(number)).write_bytes(seed)
        escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in words(name))
        dictionary.write_text("".join(f'"{word}"\n' for word in escaped))
        options = [
            f"-runs={runs}",
            f"-max_len={LONGEST}",
            f"-timeout={PATIENCE}",
            "-print_final_stats=1",
            "-verbosity=0",
        ]
        if dictionary.stat().st_size:
            options.append(f"-dict={dictionary}")

        def one(data: bytes) -> None:  # what a target returns would mean something to libFuzzer
            TARGETS[name](data)

        atheris.Setup(["fuzz", *options, str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
