"""Frontier: what throughput can I have, at what latency?"""

from sim_core.view.frontier import page
from sim_core.view.parts.sidebar import sidebar
from sim_core.view.session import shell

shell.draw(page.show, sidebar)
