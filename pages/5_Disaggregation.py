"""Disaggregation: does splitting the phases pay?"""

from sim_core.view.disaggregation import page
from sim_core.view.session import shell

shell.draw(page.show, page.pools_sidebar)
