"""Validation: can I trust it?"""

from sim_core.view.session import shell
from sim_core.view.trust import validation

shell.draw(validation.show, validation.filters_sidebar)
