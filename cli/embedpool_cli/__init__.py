"""The face: the `embedpool` command."""
