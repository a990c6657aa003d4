"""Atlas: which model runs best on what, by a large table of simulations."""

from sim_core.view.frontier.atlas import page
from sim_core.view.session import shell

shell.draw(page.show)
