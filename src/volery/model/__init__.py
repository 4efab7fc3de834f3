"""The nouns of Volery and the ports to the outside world.

Nothing here does anything: no clock, no process, no file. Every other package speaks in these
words.
"""
