"""What tests and benchmarks stand on: a fake provider, real servers, faults, virtual time."""
