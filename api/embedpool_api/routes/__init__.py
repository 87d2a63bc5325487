"""The small routes beside embeddings."""
