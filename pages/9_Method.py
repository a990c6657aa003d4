"""Method: how is it computed?"""

from sim_core.view.session import shell, state
from sim_core.view.trust import method

method.show(shell.begin())
state.publish()
