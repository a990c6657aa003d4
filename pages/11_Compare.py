"""Compare: A or B?"""

from sim_core.view.compare import page
from sim_core.view.parts.sidebar import sidebar
from sim_core.view.session import shell

shell.draw(page.show, sidebar)
