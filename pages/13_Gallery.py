"""Gallery: where can I begin?"""

from sim_core.view import gallery, shell, state

shell.begin()
gallery.show()
state.publish()
