"""The tiny replicated store: a service for tests, and those who write to it and check."""
