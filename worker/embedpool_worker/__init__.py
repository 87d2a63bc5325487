"""The pool: packs in, provider calls out."""
