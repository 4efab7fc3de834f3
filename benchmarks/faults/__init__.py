"""The fault matrix: kinds of services x faults x load, and what users notice of each.

`cases` says what there is, `bed` runs it for real, `hurt` breaks it, `cell` watches one cell,
`outcome` makes a row of it. Never touches anything but processes of its own application.
"""
