"""Room: a workshop predicts together, then looks."""

from sim_core.view.learn.room import page
from sim_core.view.session import shell

shell.begin()
page.show()
