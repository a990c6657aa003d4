"""Method: how is it computed?"""

from sim_core.view import shell, state

shell.begin()
state.publish()
