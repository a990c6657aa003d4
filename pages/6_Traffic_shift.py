"""Traffic shift: and when the mix changes?"""

from sim_core.view.session import shell
from sim_core.view.shift import page
from sim_core.view.shift.sidebar import sidebar

shell.draw(page.show, sidebar)
