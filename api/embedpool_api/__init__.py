"""The edge: the OpenAI-compatible HTTP api."""
