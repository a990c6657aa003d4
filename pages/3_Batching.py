"""Batching: what does the scheduler do, step by step?"""

from sim_core.view.batching import page
from sim_core.view.session import shell

shell.draw(page.show, page.batching_sidebar)
