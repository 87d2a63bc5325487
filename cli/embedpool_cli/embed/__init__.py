"""`embedpool embed`: files of texts in, files of vectors out."""
