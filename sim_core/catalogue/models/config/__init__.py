"""A model from the `config.json` that hubs publish: what it says, and what it leaves open."""

from sim_core.catalogue.models.config.read import ReadConfig, read_config, read_config_text

__all__ = ["ReadConfig", "read_config", "read_config_text"]
