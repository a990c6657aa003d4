"""Models: by their dimensions, by their kinds of attention, as presets and as visitors describe them."""

from sim_core.catalogue.models.custom import changed_model, custom_dimensions, custom_model
from sim_core.catalogue.models.known import model, models
from sim_core.catalogue.models.model import Model

__all__ = ["Model", "changed_model", "custom_dimensions", "custom_model", "model", "models"]
