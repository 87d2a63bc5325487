"""Virtual keys, teams and users: how they are kept in Redis, found, changed and listed."""
