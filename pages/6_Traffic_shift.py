"""Traffic shift: and when the mix changes?"""

from sim_core.view.session import shell
from sim_core.view.shift import page
from sim_core.view.shift.sidebar import shift_sidebar

shell.draw(page.show, shift_sidebar)
