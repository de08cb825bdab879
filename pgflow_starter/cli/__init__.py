"""The command line: click for its grammar, rich for its tables. The extra `cli` brings both."""
