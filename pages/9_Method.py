"""Method: how is it computed?"""

from sim_core.view import method, shell, state

method.show(shell.begin())
state.publish()
