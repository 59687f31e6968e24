"""Out-of-store secrets: seal files to hosts' SSH keys, keep them, and open them on a host's tmpfs."""
