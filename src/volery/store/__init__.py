"""What Volery remembers: documents and events in SQLite, secrets in an encrypted file.

Everything here is on disk before a call returns. Nothing here decides anything.
"""
