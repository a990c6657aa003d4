"""The tables in which rooms are kept."""

from __future__ import annotations

import sqlalchemy as sql

from sim_core.questions.teaching.room import CODE_LENGTH

MOST_VIEW_CHARACTERS = 8_000
VERSION = 2  # of the tables; raise it with every change of them

tables = sql.MetaData()
ROOMS = sql.Table(
    "batchscope_rooms",
    tables,
    sql.Column("code", sql.String(CODE_LENGTH), primary_key=True),
    sql.Column("key_hash", sql.String(64), nullable=False),
    sql.Column("secret", sql.String(64), nullable=False),
    sql.Column("opened_s", sql.Double, nullable=False, index=True),
    sql.Column("expires_s", sql.Double, nullable=False, index=True),
    sql.Column("active_s", sql.Double, nullable=False),
    sql.Column("lesson", sql.String(80), nullable=False),
    sql.Column("step", sql.Integer, nullable=False),
    sql.Column("stage", sql.String(8), nullable=False),
    sql.Column("closes_s", sql.Double),
    sql.Column("view", sql.String(MOST_VIEW_CHARACTERS), nullable=False),
    sql.Column("hidden", sql.Boolean, nullable=False),
    sql.Column("locked", sql.Boolean, nullable=False),
)


def _of_a_room() -> sql.Column:
    owner = sql.ForeignKey(ROOMS.c.code, ondelete="CASCADE")
    return sql.Column("code", sql.String(CODE_LENGTH), owner, primary_key=True)


PEOPLE = sql.Table(
    "batchscope_participants",
    tables,
    _of_a_room(),
    sql.Column("participant", sql.String(16), primary_key=True),
    sql.Column("joined_s", sql.Double, nullable=False),
    sql.Column("seen_s", sql.Double, nullable=False),
    sql.Column("sent_s", sql.Double, nullable=False),
)
GUESSES = sql.Table(
    "batchscope_predictions",
    tables,
    _of_a_room(),
    sql.Column("lesson", sql.String(80), primary_key=True),
    sql.Column("step", sql.Integer, primary_key=True),
    sql.Column("participant", sql.String(16), primary_key=True),
    sql.Column("value", sql.Double, nullable=False),
)
