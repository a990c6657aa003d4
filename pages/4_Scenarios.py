"""MLPerf-like: what do benchmark rules like MLPerf's do to throughput?"""

from sim_core.view.scenarios import page
from sim_core.view.session import shell

shell.draw(page.show, page.benchmark_sidebar)
