"""Looks at the machine that muybridge shall work on: a file a kind of look, each in a process that may fail or hang."""
