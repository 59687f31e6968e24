"""Bento: keep a fleet of NixOS machines up to date by pull, with secrets outside the Nix store."""

__version__ = "0.1.0"
