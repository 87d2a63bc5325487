"""The embeddings call as OpenAI defines it: what a body asks, of which model, and its answer."""
