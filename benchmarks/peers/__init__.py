"""Other job runners, each a program that is run by a Python of theirs; installed when they are asked for."""
