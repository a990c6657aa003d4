"""Layouts: how should the model be laid out over the devices?"""

from sim_core.view.frontier.layouts import page
from sim_core.view.session import shell

shell.draw(page.show, page.layouts_sidebar)
