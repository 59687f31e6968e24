"""Bento: keep a fleet of NixOS machines up to date by pull, with secrets outside the Nix store."""

import gc

__version__ = "0.1.0"

# Nothing of what is imported is garbage: looking for it that often takes a tenth of an agent's poll.
gc.set_threshold(20_000, 20, 20)
