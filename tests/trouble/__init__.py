"""Somebody's trouble is nobody else's: locks, slow servers and links, sessions that end, messages of nobody."""
