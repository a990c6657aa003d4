"""The Room page: a host shows questions in large type, participants follow and predict."""
