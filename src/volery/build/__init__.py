"""From source to artifact: a clean copy, its digest, build, tests, and the name of the release.

An artifact is what building one exact source gave; it is made once and then only read.
"""
