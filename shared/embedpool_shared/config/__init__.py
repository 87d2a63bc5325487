"""The configuration: one file in LiteLLM's layout, our sections beside it, and the environment."""
