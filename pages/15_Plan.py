"""Plan: which accelerators, how many, laid out how?"""

from sim_core.view.frontier.plan import page
from sim_core.view.session import shell

shell.draw(page.show, page.plan_sidebar)
