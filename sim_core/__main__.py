"""`python -m sim_core`: the command line."""

import sys

from sim_core.command.main import main

sys.exit(main())
