"""Room: a workshop predicts together, then looks."""

from sim_core.view.learn import room
from sim_core.view.session import shell

shell.begin()
room.show()
