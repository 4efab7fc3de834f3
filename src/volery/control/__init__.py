"""The loop: observe, decide, record, do. Everything that acts goes through here."""
