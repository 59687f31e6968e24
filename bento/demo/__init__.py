"""`bento demo`: the whole cycle on throw-away hosts."""
