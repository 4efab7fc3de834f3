"""What people write: the text of a manifest becomes an `Application`, or located mistakes.

Text is hostile here: bounded, typed, never executed. `read` gives the model, `lint` an opinion on
it, `schema` its JSON Schema for editors, `init` a first manifest from what a folder holds.
"""
