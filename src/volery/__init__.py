"""Volery: takes services from source to production and keeps them well there."""

__version__ = "0.1.0"
