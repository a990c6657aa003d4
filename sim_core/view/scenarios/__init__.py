"""The MLPerf-like page."""
