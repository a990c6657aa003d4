"""A deployment as commands: servers, two pools, and the benchmark that would test it."""
