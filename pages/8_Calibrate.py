"""Calibrate: what is my own engine like?"""

from sim_core.view.session import shell
from sim_core.view.trust import calibrate

shell.draw(calibrate.show, calibrate.engine_sidebar)
