"""The commands, grouped by job. Each is a function: arguments in, exit code out."""
