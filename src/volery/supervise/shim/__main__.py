"""How a shim is started: `python -I -S .../shim/__main__.py FOLDER HELD`, without site-packages.

A script would be compiled at every start; imported modules are not.
"""

import sys

sys.path.append(__file__.rsplit("/", 4)[0])

from volery.supervise.shim.lives import main

main()
