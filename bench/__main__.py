"""`python -m bench`: embedpool beside the fake provider alone."""

from bench.pool import main

main()
