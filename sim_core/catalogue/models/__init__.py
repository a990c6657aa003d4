"""Models: by their dimensions, by their kinds of attention, as presets and as visitors describe them."""

from sim_core.catalogue.models.attention import (
    COMPRESSED,
    GROUPED,
    KINDS,
    LATENT,
    STATE_BYTES,
    STATES,
    Attention,
)
from sim_core.catalogue.models.custom import changed_model, custom_dimensions, custom_model
from sim_core.catalogue.models.known import model, model_from, models
from sim_core.catalogue.models.model import Model
from sim_core.catalogue.models.told import attention_words, reads_everything

__all__ = [
    "COMPRESSED",
    "GROUPED",
    "KINDS",
    "LATENT",
    "STATES",
    "STATE_BYTES",
    "Attention",
    "Model",
    "attention_words",
    "changed_model",
    "custom_dimensions",
    "custom_model",
    "model",
    "model_from",
    "models",
    "reads_everything",
]
