"""What the api and the workers agree on."""
