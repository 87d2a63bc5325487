"""Batches: files of lines, sent through this process' own lanes."""
