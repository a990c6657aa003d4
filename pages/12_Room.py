"""Room: a workshop predicts together, then looks."""

from sim_core.view import room, shell

shell.begin()
room.show()
