"""One's own measurements: files of benchmark tools, the fit to them, a look at a running server."""
