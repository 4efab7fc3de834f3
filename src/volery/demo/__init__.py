"""`volery demo`: the main job on a sample application, with every request counted."""
