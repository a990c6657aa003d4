"""Gallery: where can I begin?"""

from sim_core.view.learn import gallery
from sim_core.view.session import shell, state

shell.begin()
gallery.show()
state.publish()
