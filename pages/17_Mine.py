"""Mine: which engines, models, accelerators, prices, traffic and limits do I keep?"""

from sim_core.view.session import shell
from sim_core.view.trust import mine

shell.draw(mine.show_mine)
