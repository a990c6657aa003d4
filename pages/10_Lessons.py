"""Lessons: predict, move one control, see."""

from sim_core.view.learn import lessons
from sim_core.view.session import shell

shell.draw(lessons.show)
