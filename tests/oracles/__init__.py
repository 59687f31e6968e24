"""Other programs as judges of the secrets module, and the keys of its vectors."""
