"""Two phases: why are prefill and decode so different?"""

from sim_core.view.phases import page
from sim_core.view.session import shell

shell.draw(page.show, page.phases_sidebar)
