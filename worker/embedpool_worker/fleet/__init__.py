"""What this worker can call: the configuration, read with the price map's eyes."""
